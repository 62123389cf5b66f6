"""From data sets to weights, and from weights to a bundle."""
