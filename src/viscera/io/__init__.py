"""Files in and out. Everything else works on arrays and geometry."""
