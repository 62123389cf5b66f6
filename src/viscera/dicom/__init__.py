"""DICOM in and out. Needs the extra `dicom`."""
