"""How well a label map agrees with the ground truth: DSC, NSD, HD95, ASSD."""
