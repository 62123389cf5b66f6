"""Pages for a browser: one case, or a cohort; each one file that asks for nothing else."""
