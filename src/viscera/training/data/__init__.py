"""Data sets, the cache, splits, samples."""
