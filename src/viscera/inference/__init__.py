"""A network run over a scan: windows, slice stacks, and the memory it takes."""
