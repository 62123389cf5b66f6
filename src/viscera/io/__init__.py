"""Files in and out. Everything else in viscera works on arrays and geometry."""

from viscera.io.read import (
    case_name,
    fingerprint,
    open_volume,
    read_grid,
    read_labels,
    read_volume,
    stored_size,
)
from viscera.io.write import write_labels, write_masks, write_volume

__all__ = [
    "case_name",
    "fingerprint",
    "open_volume",
    "read_grid",
    "read_labels",
    "read_volume",
    "stored_size",
    "write_labels",
    "write_masks",
    "write_volume",
]
