"""From weights to a bundle that gives the same labels."""
