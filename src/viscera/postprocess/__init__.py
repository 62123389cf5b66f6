"""What is done to labels after the network: the named steps of a bundle."""
