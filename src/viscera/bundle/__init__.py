"""What a bundle is, and how one is read."""
