"""A network run over a scan: its scores on its own grid, slab by slab along z."""

from viscera.scoring.patches import score_patches
from viscera.scoring.slices import score_slices

__all__ = ["score_patches", "score_slices"]
