"""Saliency maps against masks: every mask is read once, every map once, by several workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.images import read_gray, read_mask
from misc.report.score_files import digest_of
from misc.run.evaluation import Strict
from misc.run.failures import Failures
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.saliency import CURVES, SaliencyMetrics, SaliencyScores, saliency_scores

COLUMNS = ("n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure")
IMAGE_COLUMNS = ("mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "max_e", "mean_e", "adp_e")


@dataclass(frozen=True)
class Item:
    """An image: its mask, and its maps by kind."""

    name: str
    mask: Path
    maps: Mapping[str, Path]


@dataclass
class Tally:
    """Of one kind of map: the means, and a row of each image: its name, digest and IMAGE_COLUMNS."""

    metrics: SaliencyMetrics = field(default_factory=SaliencyMetrics)
    rows: list[tuple] = field(default_factory=list)

    def add(self, digest: str, scores: SaliencyScores) -> None:
        self.metrics.add(scores)
        values = (round(float(getattr(scores, name)), 6) for name in IMAGE_COLUMNS)
        self.rows.append((scores.name, digest, *values))

    def means(self) -> dict[str, float]:
        """COLUMNS; n alone where there is no image."""
        if not self.metrics.n:
            return {"n": 0}
        results = self.metrics.get_results()
        results["e_measure"] = results["mean_e"]
        return {"n": self.metrics.n, **{name: round(float(results[name]), 6) for name in COLUMNS[1:]}}

    def curves(self) -> dict[str, np.ndarray]:
        """Means at the thresholds 255, 254, ..., 0; empty where there is no image."""
        return {name: self.metrics.get_results()[name] for name in CURVES} if self.metrics.n else {}


def score_maps(
    items: Sequence[Item],
    kinds: Collection[str],
    failures: Failures | Strict,
    num_workers: int,
    quiet: bool,
    text: str = "eval",
) -> dict[str, Tally]:
    """kind -> what its maps are worth; those that cannot be scored are added to failures."""
    tallies = {kind: Tally() for kind in kinds}
    done = parallel_map(score_item, items, num_workers_for(num_workers, len(items)))
    for item, results in progress(done, len(items), text, quiet):
        for kind, path in item.maps.items():
            result = results if isinstance(results, OSError) else results[kind]
            if isinstance(result, OSError):
                failures.add("eval", path, result)
            else:
                tallies[kind].add(*result)
    return tallies


def score_item(item: Item) -> dict[str, tuple[str, SaliencyScores] | OSError]:
    """kind -> digest and scores, or why it has none. Raises OSError where the mask is missing or corrupt."""
    file = Held(item.mask)
    one = partial(score_map, name=item.name, mask_file=file, mask=read_mask(file))
    return dict(zip(item.maps, (result for _, result in parallel_map(one, [*item.maps.values()], 1)), strict=True))


def score_map(path: Path, name: str, mask_file: Held, mask: np.ndarray) -> tuple[str, SaliencyScores]:
    """Digest and scores of the map at path. Raises OSError where it is missing, corrupt, or not of the mask's size."""
    file = Held(path)
    pred = read_gray(file)
    if pred.shape != mask.shape:
        raise OSError(f"is {pred.shape[::-1]}, its mask {mask_file.path} {mask.shape[::-1]} (width, height)")
    return digest_of(file, mask_file), saliency_scores(pred, mask, name=name)
