"""How well a label map agrees with the truth: DSC, NSD, HD95, ASSD, one case or many."""

from viscera.metrics.scores import PROTOCOLS, OrganScore, Protocol, score

__all__ = ["PROTOCOLS", "OrganScore", "Protocol", "score"]
