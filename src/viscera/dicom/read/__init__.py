"""From a folder, an archive or a file to one CT series, opened as a volume."""
