"""Labels as DICOM SEG and RT Structure Set, on the slices of their series."""
