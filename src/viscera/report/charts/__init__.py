"""Charts drawn with Pillow."""
