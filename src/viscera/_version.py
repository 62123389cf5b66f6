"""The version, on its own so that no module needs the package to know it."""

__version__ = "0.1.0"
