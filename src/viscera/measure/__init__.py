"""Numbers drawn from a segmentation."""

from viscera.measure.statistics import OrganStatistics, measure

__all__ = ["OrganStatistics", "measure"]
