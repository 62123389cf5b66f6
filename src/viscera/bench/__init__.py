"""Whole processes measured side by side, as FLARE measures them."""
