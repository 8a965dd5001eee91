"""How well the maps of a CAM network find the objects, while it is trained."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from misc.files.boxes import ImageBoxes
from misc.files.images import read_mask
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import SaliencyMetrics


@dataclass
class MapScores:
    """Maps of images against boxes and masks, whichever there are: max_box_acc at an IoU of 0.5, max_f."""

    boxes: dict[str, ImageBoxes] | None = None
    masks: dict[str, Path] | None = None
    _boxes: BoxAccuracy = field(default_factory=BoxAccuracy)
    _f: SaliencyMetrics = field(default_factory=SaliencyMetrics)

    def step(self, stem: str, cam: np.ndarray, size: tuple[int, int]) -> None:
        """Add the image of this stem and size (H, W), if it has boxes or a mask: maps (P,h,w) in [0,1] of its classes.

        Raises OSError for a mask that cannot be read or is of another size.
        """
        if not len(cam):
            return
        cam = cv2.resize(cam.max(axis=0), size[::-1], interpolation=cv2.INTER_LINEAR)
        if self.boxes and stem in self.boxes:
            self._boxes.step(cam, self.boxes[stem].at(size))
        if self.masks and stem in self.masks:
            mask = read_mask(file := self.masks[stem])
            if mask.shape != size:
                raise OSError(f"{file} is {mask.shape[1]} x {mask.shape[0]}, its image {size[1]} x {size[0]}")
            self._f.step((255 * cam).round().astype(np.uint8), mask)

    def get_results(self) -> dict[str, float]:
        found = {"max_box_acc": self._boxes.get_results()["max_box_acc"]} if self._boxes.n else {}
        return {**found, "max_f": float(self._f.get_results()["max_f"])} if self._f.n else found
