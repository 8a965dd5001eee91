"""Saliency maps against masks."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.images import at_size, read_gray, read_mask
from misc.report.score_files import Read, digest_of, rounded
from misc.run.evaluation import Files, compare
from misc.run.failures import Told
from misc.run.flags import Args
from pgt.metrics.saliency import SaliencyMetrics, SaliencyScores, saliency_scores

COLUMNS = ("n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure")
IMAGE_COLUMNS = ("mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "max_e", "mean_e", "adp_e")


@dataclass
class Scores:
    """Of images: their sums, how many of their masks hold an object, a row each: name, digest and IMAGE_COLUMNS."""

    metrics: SaliencyMetrics = field(default_factory=SaliencyMetrics)
    objects: int = 0
    rows: list[tuple] = field(default_factory=list)

    def add_sums(self, state: Mapping) -> None:
        """Those of others, as `state` has them; their rows stay with them."""
        self.metrics.merge(SaliencyMetrics.of_state(state["metrics"]))
        self.objects += state["objects"]

    def state(self) -> dict:
        """As JSON holds it."""
        return {"metrics": self.metrics.state(), "objects": self.objects, "rows": self.rows}

    def results(self, folder: Path) -> dict[str, float | np.ndarray]:
        """n and, where there is an image, SaliencyMetrics' results, with e_measure, which is mean_e. Warns where no
        mask holds an object."""
        n = self.metrics.n
        if not n:
            return {"n": 0}
        if not self.objects:
            print(f"warning: {folder}: none of {n} masks holds an object, so the scores say nothing", file=sys.stderr)
        results = self.metrics.get_results()
        return {"n": n, **results, "e_measure": results["mean_e"]}


def score_maps(
    folder: Path,
    masks: Files,
    preds: Files,
    args: Args,
    failures: Told,
    read: Read = Held,
    fit: bool = False,
) -> Scores:
    """What the maps in folder are worth. fit: maps that are smaller than their masks are brought to their sizes."""
    found = Scores()
    for digest, scores, has_object in compare(
        "eval", folder, masks, partial(score_map, read=read, fit=fit), args, failures, preds
    ):
        found.metrics.add(scores)
        found.objects += has_object
        found.rows.append((scores.name, digest, *rounded(getattr(scores, key) for key in IMAGE_COLUMNS)))
    return found


def score_map(
    name: str, path: Path, mask_path: Path, read: Read, fit: bool = False
) -> tuple[str, SaliencyScores, bool]:
    """-> digest, scores, whether the mask holds an object. Raises OSError where a file is missing or corrupt, or the
    map not of the mask's size."""
    try:
        mask_file = read(mask_path)
        mask = read_mask(mask_file)
    except OSError as e:
        raise OSError(f"its mask {mask_path} {e}") from e
    pred = read_gray(file := Held(path))
    if fit:
        with suppress(ValueError):  # which the next line tells
            pred = at_size(pred, mask.shape)
    if pred.shape != mask.shape:
        raise OSError(f"is {pred.shape[::-1]}, its mask {mask_path} {mask.shape[::-1]} (width, height)")
    return digest_of(file, mask_file), saliency_scores(pred, mask, name=name), bool(mask.any())
