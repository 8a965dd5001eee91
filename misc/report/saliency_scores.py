"""Saliency maps against masks: every mask is read once, every map once, by several workers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.images import read_gray, read_mask
from misc.report.score_files import digest_of
from misc.run.evaluation import Strict
from misc.run.failures import Failures
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.saliency import SaliencyMetrics, SaliencyScores, saliency_scores

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
    """Of one kind of map: the means, and a row per image: its name, digest and IMAGE_COLUMNS."""

    metrics: SaliencyMetrics = field(default_factory=SaliencyMetrics)
    rows: list[tuple] = field(default_factory=list)

    def add(self, digest: str, scores: SaliencyScores) -> None:
        self.metrics.add(scores)
        self.rows.append((scores.name, digest, *(round(float(getattr(scores, key)), 6) for key in IMAGE_COLUMNS)))

    def get_results(self) -> dict[str, float | np.ndarray]:
        """n and, where there is an image, SaliencyMetrics' results, with e_measure, which is mean_e."""
        results = self.metrics.get_results() if self.metrics.n else {}
        return {"n": self.metrics.n, **results, **({"e_measure": results["mean_e"]} if results else {})}


def score_maps(
    items: Sequence[Item], kinds: Collection[str], failures: Failures | Strict, num_workers: int, quiet: bool
) -> dict[str, Tally]:
    """kind -> what its maps are worth; those that cannot be scored are added to failures."""
    tallies = {kind: Tally() for kind in kinds}
    done = parallel_map(score_item, items, num_workers_for(num_workers, len(items)))
    for item, results in progress(done, len(items), f"eval {' '.join(kinds)}", quiet):
        for kind, path in item.maps.items():
            result = results if isinstance(results, OSError) else results[kind]
            if isinstance(result, OSError):
                failures.add("eval", path, result)
            else:
                tallies[kind].add(*result)
    return tallies


def score_item(item: Item) -> dict[str, tuple[str, SaliencyScores] | OSError]:
    """kind -> digest and scores, or the OSError of a map that is missing, corrupt, or not of the mask's size.

    Raises OSError where the mask is missing or corrupt.
    """
    mask_file = Held(item.mask)
    mask = read_mask(mask_file)

    def score(path: Path) -> tuple[str, SaliencyScores]:
        file = Held(path)
        pred = read_gray(file)
        if pred.shape != mask.shape:
            raise OSError(f"is {pred.shape[::-1]}, its mask {item.mask} {mask.shape[::-1]} (width, height)")
        return digest_of(file, mask_file), saliency_scores(pred, mask, name=item.name)

    done = parallel_map(score, [*item.maps.values()], 1)
    return {kind: result for kind, (_, result) in zip(item.maps, done, strict=True)}
