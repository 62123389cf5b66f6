"""The nouns of the house: affine, organs, HU, volume, label map, components, phantom."""
