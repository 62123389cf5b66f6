"""What is done to labels after the network: the named steps of a bundle."""

from viscera.postprocess.chain import postprocess

__all__ = ["postprocess"]
