"""Scores of saliency maps, segmentations and boxes, all used alike:

    metrics = SaliencyMetrics()
    for pred, gt in pairs:
        metrics.step(pred, gt)
    print(metrics.get_results()["max_f"])

Parts of a data set can be scored anywhere: merge(other) adds the images of another part.
"""

from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import SaliencyMetrics
from pgt.metrics.segmentation import Confusion, ContourF, ThresholdSweep

__all__ = ["BoxAccuracy", "Confusion", "ContourF", "SaliencyMetrics", "ThresholdSweep"]
