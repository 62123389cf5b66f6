"""Many scans segmented: which cases there are, their output files, what failed."""
