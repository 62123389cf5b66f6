"""Engines run the network of a bundle on the CPU."""
