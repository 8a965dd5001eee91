"""Scores of saliency maps, segmentations and boxes: step(...) for each image, merge(other), get_results()."""

from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import SaliencyMetrics
from pgt.metrics.segmentation import Confusion, ContourF, ThresholdSweep

__all__ = ["BoxAccuracy", "Confusion", "ContourF", "SaliencyMetrics", "ThresholdSweep"]
