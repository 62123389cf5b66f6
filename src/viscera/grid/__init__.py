"""Geometry between the grid of a scan and the grid of a network."""
