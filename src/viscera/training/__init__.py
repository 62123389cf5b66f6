"""Training: from folders of scans and labels to weights, from weights to a bundle."""
