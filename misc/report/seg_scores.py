"""Segmentations and CAMs against masks: what the evaluators of classes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from misc.errors import InputError
from misc.files.held import Held
from misc.files.predictions import Cams, find_prediction, read_label, read_prediction
from misc.files.store import read_json, write_json
from misc.report.kinds import Kind
from misc.report.score_files import digest_of, write_scores
from misc.run.evaluation import Strict, present, to_json
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.segmentation import Confusion, ContourF, ThresholdSweep

if TYPE_CHECKING:  # data stands on misc
    from data.datasets import DatasetSpec
    from data.segmentation import SegmentationSet

IMAGE_COLUMNS = ("miou", "pixel_accuracy")
CHUNK = 32  # images per task, which has its own counts


@dataclass(frozen=True)
class Protocol:
    """spec: the label space; keys: what key 0 of CAMs is (misc/files/predictions.py); bg_score: background's score;
    read: how a file comes into memory."""

    spec: DatasetSpec
    keys: str = "foreground"
    bg_score: float = 0.25
    read: Callable[[Path], Held] = Held


@dataclass
class Scores:
    """Counts of n images; names: of the labels; sweep and num_cams are of those images that are CAMs.

    rows: name, digest and IMAGE_COLUMNS of each image; failed: (prediction, reason)."""

    names: tuple[str, ...]
    confusion: Confusion
    sweep: ThresholdSweep
    contours: dict[str, ContourF]
    n: int = 0
    num_cams: int = 0
    rows: list[tuple] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    @classmethod
    def empty(cls, spec: DatasetSpec) -> Scores:
        space = spec.num_classes, spec.ignore
        contours = {void: ContourF(*space, void) for void in ("left_out", "background")}
        return cls(spec.names, Confusion(*space), ThresholdSweep(*space), contours)

    @property
    def contour_f(self) -> float:
        return self.contours["left_out"].get_results()["mean_f"]

    def get_results(self) -> dict:
        """Confusion's, with iou by name; of CAMs those of the best threshold, and threshold_sweep has them all."""
        sweep = self.sweep.get_results() if self.num_cams else {}
        results = sweep.pop("best") if sweep else self.confusion.get_results()
        iou = dict(zip(self.names, results["iou"].tolist(), strict=True))
        return {**results, "iou": iou, **({"threshold_sweep": sweep} if sweep else {})}

    def merge(self, other: Scores) -> None:
        self.confusion.merge(other.confusion)
        if other.num_cams:
            self.sweep.merge(other.sweep)
        for void, contour in self.contours.items():
            contour.merge(other.contours[void])
        self.n, self.num_cams = self.n + other.n, self.num_cams + other.num_cams
        self.rows += other.rows
        self.failed += other.failed


def score_folder(
    folder: Path, masks: Mapping[str, Path], protocol: Protocol, args: Args, failures: Failures | Strict
) -> Scores:
    """All masks (name -> file) against their predictions in folder; what cannot be used is added to failures.

    args: num_workers, quiet. Raises InputError where nothing can be scored, or CAMs and label maps lie side by side.
    """
    found = list(present(masks, folder, partial(find_prediction, folder), "eval_sem_seg", failures).items())
    chunks = [found[i : i + CHUNK] for i in range(0, len(found), CHUNK)]
    total, one = Scores.empty(protocol.spec), partial(score_chunk, masks=masks, protocol=protocol)
    done = parallel_map(one, chunks, num_workers_for(args.num_workers, len(found)))
    for _, scores in progress(done, len(chunks), f"eval_sem_seg {folder.name}", args.quiet):
        for file, reason in scores.failed:
            failures.add("eval_sem_seg", file, reason)
        total.merge(scores)
    if not total.n:
        raise InputError(f"{folder}: no image of it could be scored; run what makes it, or give another folder")
    if 0 < total.num_cams < total.n:
        raise InputError(f"{folder}: {total.num_cams} of {total.n} files are CAMs; score label maps apart")
    return total


def score_chunk(preds: Sequence[tuple[str, Path]], masks: Mapping[str, Path], protocol: Protocol) -> Scores:
    """preds: (name, file)"""
    scores = Scores.empty(protocol.spec)
    for name, pred in preds:
        try:
            add_image(scores, name, pred, masks[name], protocol)
        except OSError as e:
            scores.failed.append((pred, e.strerror or str(e)))
    return scores


def add_image(scores: Scores, name: str, pred_path: Path, mask_path: Path, protocol: Protocol) -> None:
    """Raises OSError where a file is missing or damaged, sizes differ, or a value is no class."""
    mask_file, gt = _read_mask(mask_path, protocol)
    file = protocol.read(pred_path)
    pred = read_prediction(file, protocol.keys)
    cams = pred if isinstance(pred, Cams) and not pred.has_background else None
    if cams is not None and not cams.labels.size:  # an image without a class has no map that could tell its size
        cams = Cams(cams.labels, np.zeros((0, *gt.shape), np.float32))
        pred = cams
    label = pred.label_map(protocol.bg_score) if isinstance(pred, Cams) else pred
    if label.shape != gt.shape:
        raise OSError(f"is {label.shape[::-1]}, its mask {mask_path} {gt.shape[::-1]} (width, height)")
    image = Confusion(protocol.spec.num_classes, protocol.spec.ignore)
    try:
        image.step(label, gt)
        if cams is not None:
            scores.sweep.step(cams.labels, cams.scores, gt)
        for contour in scores.contours.values():
            contour.step(label, gt)
    except ValueError as e:
        raise OSError(f"{e} (mask {mask_path})") from e
    scores.confusion.merge(image)
    scores.n += 1
    scores.num_cams += cams is not None
    results = image.get_results() if image.matrix.any() else dict.fromkeys(IMAGE_COLUMNS, np.nan)
    values = (round(float(results[key]), 6) for key in IMAGE_COLUMNS)
    scores.rows.append((name, digest_of(file, mask_file), *values))


def _read_mask(path: Path, protocol: Protocol) -> tuple[Held, np.ndarray]:
    try:
        file = protocol.read(path)
        return file, read_label(file)
    except OSError as e:
        raise OSError(f"its mask {path} {e}") from e


def score_labels(
    folder: Path, masks: Mapping[str, Path], spec: DatasetSpec, args: Args, failures: Failures
) -> tuple[dict, Scores]:
    """-> what metrics.json holds of label maps, and their scores."""
    scores = score_folder(folder, masks, Protocol(spec), args, failures)
    return split_row(scores, scores.contour_f), scores


def split_row(scores: Scores, contour_f: float) -> dict:
    results = scores.get_results()
    return {"miou": results["miou"], "contour_f": contour_f, "n": scores.n, "iou": results["iou"]}


def score_splits(
    kind: Kind,
    parts: Mapping[str, SegmentationSet],
    args: Args,
    failures: Failures,
    score: Callable[..., tuple[dict, Scores]] = score_labels,
) -> None:
    """score (as score_labels) of each split: a row in metrics.json, and a row per image in scores/<kind>.csv. Of label
    maps, splits without any are left out."""
    folder, results, images = kind.folder(args), {}, []
    for split, part in parts.items():
        masks = part.masks()
        made = kind.style == "heat" or any((folder / f"{name}{kind.suffix}").is_file() for name in masks)
        if masks and made:
            row, scores = score(folder, masks, part.spec, args, failures)
            results[split] = to_json(row)
            images += [(split, *image) for image in scores.rows]
            print(f"{kind.key} {split}: {_in_percent(row)}", flush=True)
    if not results:
        raise InputError(f"{folder}: nothing to score in it, or no masks; run what makes it")
    write_scores(args.result_dir, kind.key, ("split", "image", "digest", *IMAGE_COLUMNS), images)
    path = args.result_dir / "metrics.json"
    write_json(path, {**read_json(path), kind.key: results})


def _in_percent(row: Mapping[str, object]) -> str:
    numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and not np.isnan(value)}
    scale = {"n": 1, "best_threshold": 1}
    return ", ".join(f"{name} {round(scale.get(name, 100) * value, 3):.4g}" for name, value in numbers.items())
