"""Predictions compared with the ground truth: one case, or a cohort."""
