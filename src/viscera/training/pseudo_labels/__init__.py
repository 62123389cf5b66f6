"""Labels made by a bundle, with the quality of every organ."""
