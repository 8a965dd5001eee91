"""How well a classifier knows the classes of images."""

from __future__ import annotations

import numpy as np


class ClassScores:
    """top1 (share of images whose likeliest class is theirs) of images with one class each, mean_ap of others."""

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
        return {"mean_ap": mean_average_precision(logits, labels)}


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
