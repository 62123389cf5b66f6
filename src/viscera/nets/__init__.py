"""Networks, in torch: what `viscera train` trains and `viscera export` turns into a bundle."""

from viscera.nets.registry import ARCHITECTURES, Architecture, build_network

__all__ = ["ARCHITECTURES", "Architecture", "build_network"]
