"""Archives and scanners: series come from them, SEG and RTSTRUCT go back to them."""
