"""How well a classifier knows the classes of images, and how well its maps find the objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from misc.images import read_mask
from misc.localization import BoxAccuracy, ImageBoxes
from misc.metrics import SaliencyMetrics


class ClassScores:
    """top1 (share of images whose likeliest class is theirs) of images with one class each, map of others."""

    def __init__(self, single_label: bool):
        self.single_label = single_label
        self._logits: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def step(self, logits: np.ndarray, label: np.ndarray) -> None:
        """Add an image: logits (K,), label (K,) multi-hot."""
        self._logits.append(np.asarray(logits, np.float64))
        self._labels.append(np.asarray(label).astype(bool))

    def get_results(self) -> dict[str, float]:
        logits, labels = np.stack(self._logits), np.stack(self._labels)
        if self.single_label:
            return {"top1": float(labels[np.arange(len(labels)), logits.argmax(1)].mean())}
        return {"map": mean_average_precision(logits, labels)}


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """scores (N,K), labels (N,K) bool -> mean over the classes that occur of the mean precision at each image of the
    class, by descending score; images of one score count together."""
    values = []
    for score, label in zip(scores.T, labels.T, strict=True):
        if label.any():
            order = np.argsort(-score, kind="stable")
            hits, ranked = label[order].cumsum(), score[order]
            last = np.append(ranked[1:] != ranked[:-1], True)  # of its ties
            ends = np.flatnonzero(last)[np.searchsorted(np.flatnonzero(last), np.arange(len(ranked)))]
            values.append((hits[ends] / (ends + 1))[label[order]].mean())
    return float(np.mean(values)) if values else float("nan")


@dataclass
class MapScores:
    """Maps of images against boxes and masks, whichever there are: max_box_acc at an IoU of 0.5, max_f."""

    boxes: dict[str, ImageBoxes] | None = None
    masks: dict[str, Path] | None = None
    _boxes: BoxAccuracy = field(default_factory=BoxAccuracy)
    _f: SaliencyMetrics = field(default_factory=SaliencyMetrics)
    _num_masks: int = 0

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
            mask = read_mask(self.masks[stem])
            if mask.shape != size:
                raise OSError(
                    f"{self.masks[stem]} is {mask.shape[1]} x {mask.shape[0]}, its image {size[1]} x {size[0]}"
                )
            self._f.step((255 * cam).round().astype(np.uint8), mask)
            self._num_masks += 1

    def get_results(self) -> dict[str, float]:
        found = {"max_box_acc": self._boxes.get_results()["max_box_acc"]} if self._boxes.n else {}
        return {**found, "max_f": float(self._f.get_results()["max_f"])} if self._num_masks else found
