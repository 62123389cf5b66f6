"""Geometry between the scan's own grid and the network's."""

from viscera.grid.grid import Grid
from viscera.grid.shear import straighten

__all__ = ["Grid", "straighten"]
