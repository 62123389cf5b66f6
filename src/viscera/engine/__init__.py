"""Engines run a bundle's network on the CPU; `open_engine` chooses one."""

from viscera.engine.select import ENGINES, FallbackEngine, open_engine

__all__ = ["ENGINES", "FallbackEngine", "open_engine"]
