"""Pictures of a CT with its organs."""
