"""Segmentations and CAMs against masks: what the evaluators of classes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from misc.errors import InputError
from misc.files.held import Held
from misc.files.predictions import Cams, read_label, read_prediction
from misc.files.store import read_json, write_json
from misc.report.kinds import Kind
from misc.report.score_files import Read, digest_of, rounded, write_scores
from misc.run.evaluation import Files, compare, nothing_to_compare, to_json
from misc.run.failures import Failures, Told
from misc.run.flags import Args
from misc.run.parts import Found, Parts, in_parts
from pgt.metrics.segmentation import Confusion, ContourF, ThresholdSweep

if TYPE_CHECKING:  # data stands on misc
    from data.datasets import DatasetSpec
    from data.segmentation import SegmentationSet

IMAGE_COLUMNS = ("miou", "pixel_accuracy")


class Scores:
    """Counts of images, a row each: name, digest and IMAGE_COLUMNS; the sweep is of those num_cams that are CAMs."""

    def __init__(self, spec: DatasetSpec):
        space = spec.num_classes, spec.ignore
        self.confusion, self.sweep = Confusion(*space), ThresholdSweep(*space)
        self.contours = {"void_left_out": ContourF(*space), "void_as_background": ContourF(*space, "background")}
        self.names, self.num_cams = spec.names, 0
        self.rows: list[tuple] = []

    def merge(self, other: Scores) -> None:
        self.confusion.merge(other.confusion)
        self.sweep.merge(other.sweep)
        for form, contour in self.contours.items():
            contour.merge(other.contours[form])
        self.num_cams += other.num_cams
        self.rows += other.rows

    def state(self) -> dict:
        """As JSON holds it; the sweep, a large one, where there are CAMs."""
        counts = {form: contour.counts.tolist() for form, contour in self.contours.items()}
        sweep = {"sweep": self.sweep.counts.tolist()} if self.num_cams else {}
        held = {"confusion": self.confusion.matrix.tolist(), "contours": counts, **sweep}
        return {**held, "num_cams": self.num_cams, "rows": self.rows}

    @classmethod
    def of_state(cls, spec: DatasetSpec, state: Mapping) -> Scores:
        found = cls(spec)
        found.confusion.matrix += np.array(state["confusion"])
        found.sweep.counts += np.array(state.get("sweep", 0))
        for form, contour in found.contours.items():
            contour.counts += np.array(state["contours"][form])
        found.num_cams, found.rows = state["num_cams"], state["rows"]
        return found

    @property
    def contour_f(self) -> float:
        return self.contours["void_left_out"].get_results()["mean_f"]

    @property
    def num_objects(self) -> int:
        """Pixels of classes in masks: without any, nothing but background has been compared."""
        return int(self.confusion.matrix[1:].sum())

    def get_results(self) -> dict:
        """n and Confusion's, with iou by name; of CAMs at the best threshold, and threshold_sweep has them all."""
        sweep = self.sweep.get_results() if self.num_cams else {}
        results = sweep.pop("best") if sweep else self.confusion.get_results()
        iou = dict(zip(self.names, results["iou"].tolist(), strict=True))
        return {"n": len(self.rows), **results, "iou": iou, **({"threshold_sweep": sweep} if sweep else {})}


def score_folder(folder: Path, masks: Files, spec: DatasetSpec, args: Args, failures: Told, **how: Any) -> Scores:
    """All masks against their predictions in folder; what cannot be used is added to failures.

    args: as compare takes them; how: see score_image. Raises InputError as require_scores does.
    """
    return require_scores(gather("eval_sem_seg", folder, masks, spec, args, failures, **how), folder, masks, spec)


def gather(step: str, folder: Path, masks: Files, spec: DatasetSpec, args: Args, failures: Told, **how: Any) -> Scores:
    """score_folder, whatever comes out. step: what failures name."""
    total, work = Scores(spec), partial(score_image, spec=spec, **how)
    for scores in compare(step, folder, masks, work, args, failures):
        total.merge(scores)
    return total


def require_scores(total: Scores, folder: Path, masks: Files, spec: DatasetSpec) -> Scores:
    """Raises InputError where nothing could be scored, or CAMs and label maps lie side by side, and where no mask holds
    a class."""
    if not total.rows:
        raise InputError(f"{folder}: no image of it could be scored; run what makes it, or give another folder")
    if not total.num_objects:
        mask = next(iter(masks.values()))
        raise InputError(
            f"{folder}: no mask of its {len(total.rows)} images holds a class, only 0 and {spec.ignore}, the void "
            f'({mask} for one): write labels 1 to {len(spec.class_names)}, or give class names with another "ignore"'
        )
    if 0 < total.num_cams < len(total.rows):
        raise InputError(f"{folder}: {total.num_cams} of {len(total.rows)} files are CAMs; score label maps apart")
    return total


def score_image(
    name: str,
    path: Path,
    mask_path: Path,
    spec: DatasetSpec,
    keys: str = "foreground",
    bg_score: float = 0.25,
    read: Read = Held,
) -> Scores:
    """spec: the label space; keys: what key 0 of CAMs is (misc/files/predictions.py); bg_score: background's score;
    read: how a file comes into memory. Raises OSError where one is missing or damaged, sizes differ, or a value is no
    class.
    """
    try:
        mask_file = read(mask_path)
        gt = read_label(mask_file)
    except OSError as e:
        raise OSError(f"its mask {mask_path} {e}") from e
    scores, file = Scores(spec), read(path)
    pred = read_prediction(file, keys, gt.shape)
    if isinstance(pred, Cams) and not pred.labels.size:  # an image without a class has no map that could tell its size
        pred = Cams(pred.labels, np.zeros((0, *gt.shape), np.float32))
    label = pred.label_map(bg_score) if isinstance(pred, Cams) else pred
    if label.shape != gt.shape:
        raise OSError(f"is {label.shape[::-1]}, its mask {mask_path} {gt.shape[::-1]} (width, height)")
    try:
        for counts in (scores.confusion, *scores.contours.values()):
            counts.step(label, gt)
        if isinstance(pred, Cams) and not pred.has_background:
            scores.sweep.step(pred.labels, pred.scores, gt)
            scores.num_cams = 1
    except ValueError as e:
        raise OSError(f"{e} (mask {mask_path})") from e
    results = scores.confusion.get_results() if scores.confusion.matrix.any() else dict.fromkeys(IMAGE_COLUMNS, np.nan)
    scores.rows.append((name, digest_of(file, mask_file), *rounded(results[key] for key in IMAGE_COLUMNS)))
    return scores


def score_splits(
    kind: Kind, parts: Mapping[str, SegmentationSet], places: Callable[[int], range], args: Args, failures: Failures
) -> None:
    """write_splits of label maps; of a run by shards, those of the shard under way, or what was found of all. Splits
    without any label map are left out. places: of so many images -> those that are looked at."""
    step, folder = f"eval_{kind.key}", kind.folder(args)

    def masks_of(split: str) -> Files:
        names, masks = parts[split].images.names, parts[split].masks
        return {names[k]: masks[names[k]] for k in places(len(names)) if names[k] in masks}

    def opened() -> Files:
        return {f"{split}/{name}": mask for split in parts for name, mask in masks_of(split).items()}

    def labels(split: str) -> list[Path]:
        return [folder / f"{name}{kind.suffix}" for name in masks_of(split)]

    def find(_: Files) -> Found:
        found = {}
        for split, part in parts.items():
            masks, made = masks_of(split), any(path.is_file() for path in labels(split))
            own = gather(step, folder, masks, part.spec, args, failures).state() if made else {}
            found[split] = own or {"bare": len(masks)}
        return found

    files = lambda images: [*images.values(), *(path for split in parts for path in labels(split))]  # noqa: E731
    if found := in_parts(step, opened, files, find, args, failures):
        write_splits(kind, parts, dict(_totals(kind, parts, found, args, failures)), args)


def _totals(
    kind: Kind, parts: Mapping[str, SegmentationSet], found: Parts, args: Args, failures: Failures
) -> Iterator[tuple[str, tuple[Scores, dict]]]:
    """Of each split that has a label map: its scores, and nothing else. Shards of it without any are told to
    failures."""
    folder = kind.folder(args)
    for split, part in parts.items():
        states = [one[split] for one in found() if split in one]
        scored, bare = [s for s in states if "rows" in s], sum(s.get("bare", 0) for s in states)
        if not scored:
            continue
        if bare:
            failures.add(f"eval_{kind.key}", folder, f"shards of {bare} images of {split} have no label there")
        total = Scores(part.spec)
        for state in scored:
            total.merge(Scores.of_state(part.spec, state))
        yield split, (require_scores(total, folder, part.masks, part.spec), {})


def write_splits(
    kind: Kind, parts: Mapping[str, SegmentationSet], scored: Mapping[str, tuple[Scores, dict]], args: Args
) -> None:
    """A row per split in metrics.json, and one per image in scores/<kind>.csv. scored: of each split that could be,
    its scores, and what else metrics.json holds of them."""
    results, images = {}, []
    for split, (scores, more) in scored.items():
        found = scores.get_results()
        row = {"miou": found["miou"], "contour_f": scores.contour_f, "n": found["n"], "iou": found["iou"], **more}
        results[split] = to_json(row)
        images += [(split, *image) for image in scores.rows]
        print(f"{kind.key} {split}: {_in_percent(row)}", flush=True)
    if not results:
        any_masks = any(part.masks for part in parts.values())
        missing = f"nothing to score in {kind.folder(args)}" if any_masks else "no masks"
        nothing_to_compare(f"eval_{kind.key}", missing, args)
        return
    write_scores(args.result_dir, kind.key, ("split", "image", "digest", *IMAGE_COLUMNS), images)
    path = args.result_dir / "metrics.json"
    write_json(path, {**read_json(path), kind.key: results})


def _in_percent(row: Mapping[str, object]) -> str:
    numbers = {name: value for name, value in row.items() if isinstance(value, (int, float)) and not np.isnan(value)}
    scale = {"n": 1, "best_threshold": 1}
    return ", ".join(f"{name} {round(scale.get(name, 100) * value, 3):.4g}" for name, value in numbers.items())
