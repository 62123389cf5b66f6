"""Process-level services: threads, memory, stages, files written whole."""
