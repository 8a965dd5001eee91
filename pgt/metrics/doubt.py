"""How doubtful the labels of an image are, without a mask: where things that should agree do not.

Every ingredient is in [0,1], 0 where all agree. They are what is known of an image, none is learned; doubt is what is
left where each takes its share of the trust.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray], float]
SMALLEST, LARGEST = 0.02, 0.6  # shares of the foreground between which nothing is odd


def doubt_of(ingredients: Mapping[str, float]) -> float:
    """1 - product of (1 - ingredient): one that is 1 is enough, and one that is 0 says nothing."""
    return 1 - float(np.prod([1 - value for value in ingredients.values()]))


def doubts_of_saliency(labels: Sequence[np.ndarray], cam: np.ndarray | None = None) -> dict[str, float]:
    """labels: (H,W) uint8 foreground probabilities of an image, one or more; cam: its map, likewise.

    labels: distance of kinds of labels; map: of the map and the labels; unsure: of the labels and what they are once
    they are binary, which is where a network and its CRF differ; border, share: see below.
    """
    soft = [label / np.float32(255) for label in labels]
    found = _distances(labels, soft_distance)
    if cam is not None:
        apart = [np.abs(label - cam / np.float32(255)).mean() for label in soft if label.shape == cam.shape]
        found |= {"map": float(np.mean(apart))} if apart else {}
    unsure = [np.minimum(label, 1 - label).sum() / max(float(label.sum()), 1.0) for label in soft]
    return {**found, "unsure": min(1.0, float(np.mean(unsure))), **_of_foreground([label >= 0.5 for label in soft])}


def doubts_of_classes(
    labels: Sequence[np.ndarray],
    classes: Sequence[int],
    ignore: int = 255,
    cam: np.ndarray | None = None,
    crf: Sequence[np.ndarray] = (),
) -> dict[str, float]:
    """labels: (H,W) class ids of an image, 0 the background, one or more, the final one last; classes: ids that it is
    known to have; cam: (H,W) in [0,1], the strongest of their maps; crf: labels with little and with much background.

    labels: distance of kinds of labels; crf: of those two; map: of map and labels; classes: of the classes of the final
    label and those known; border, share: see below.
    """
    void = lambda label: np.where(label == ignore, 0, label)  # noqa: E731
    labels = [void(label) for label in labels]
    found = _distances(labels, class_distance)
    if len(crf) == 2 and crf[0].shape == crf[1].shape:
        found["crf"] = class_distance(*map(void, crf))
    if cam is not None:
        apart = [np.abs((label > 0) - cam).mean() for label in labels if label.shape == cam.shape]
        found |= {"map": float(np.mean(apart))} if apart else {}
    there, known = {*np.unique(labels[-1]).tolist()} - {0}, {*classes}
    found["classes"] = len(there ^ known) / max(1, len(there | known))
    return {**found, **_of_foreground([label > 0 for label in labels])}


def soft_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Two labels (H,W) uint8 -> 1 - sum(min) / sum(max), the Jaccard distance without a threshold: a small object
    counts as much as a large one. 0 where both are empty."""
    union = int(np.maximum(a, b).sum(dtype=np.int64))
    return 1 - int(np.minimum(a, b).sum(dtype=np.int64)) / union if union else 0.0


def class_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Two labels (H,W) of ids, 0 the background -> the share of what is foreground in either that differs."""
    inside = (a > 0) | (b > 0)
    return float((a != b)[inside].mean()) if inside.any() else 0.0


def _distances(labels: Sequence[np.ndarray], distance: Distance) -> dict[str, float]:
    """Of all pairs of one size, in the mean."""
    found = [distance(a, b) for a, b in combinations(labels, 2) if a.shape == b.shape]
    return {"labels": float(np.mean(found))} if found else {}


def _of_foreground(masks: Sequence[np.ndarray]) -> dict[str, float]:
    """border: share of the image's edge that is foreground, as objects are seldom cut off; share: 1 where all or
    nothing is foreground, 0 between SMALLEST and LARGEST."""
    edges = [np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean() for mask in masks]
    share = float(np.mean([mask.mean() for mask in masks]))
    odd = max(0.0, 1 - share / SMALLEST, (share - LARGEST) / (1 - LARGEST))
    return {"border": float(np.mean(edges)), "share": odd}
