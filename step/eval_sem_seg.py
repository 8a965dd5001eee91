"""Segmentations and CAMs, of any project, against masks: mIoU, pixel accuracy, contour F, and the threshold sweep.

    python -m step.eval_sem_seg --pred_dir A --dataset voc12 --mask_dir SegmentationClass --list val.txt
    python -m step.eval_sem_seg --pred_dir A B --dataset voc12 --data_dir VOC2012 --split val --out metrics.json
    python -m step.eval_sem_seg --pred_dir A --dataset names.txt --mask_dir M        classes of your own, a name a line

Reads   PRED_DIR/<stem>.png|npz|npy for every mask (misc/files/predictions.py says what they may hold)
Writes  a table on the terminal; --out; --per_image
Paper   SEAM, CVPR 2020 (thresholds 0..0.59); HFPL, WACV 2024 (contour F); pgt/metrics/segmentation.py

CAMs are scored at every background threshold in one pass, and shown at the best; contour F is at --bg_score.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec, get_dataset, read_names
from misc.errors import InputError
from misc.files.images import find_images
from misc.files.predictions import FIRST_LABEL, Cams, find_prediction, read_label, read_prediction
from misc.files.store import write_csv, write_json
from misc.run.evaluation import (
    Pair,
    Strict,
    add_evaluator_flags,
    evaluator_parser,
    exit_status,
    present_pairs,
    short_names,
    table,
    to_json,
)
from misc.run.flags import fraction
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.segmentation import Confusion, ContourF, ThresholdSweep

COLUMNS = ("n", "miou", "miou_absent_0", "pixel_accuracy", "best_threshold", "contour_f", "contour_f_published")
CHUNK = 32  # images a task, which has its own counts


@dataclass(frozen=True)
class Protocol:
    """spec: the label space; keys: what key 0 of CAMs is (misc/files/predictions.py); bg_score: background's score."""

    spec: DatasetSpec
    keys: str = "foreground"
    bg_score: float = 0.25


@dataclass
class Scores:
    """Counts of n images; sweep and num_cams are of those that are CAMs. failed: (prediction, reason)."""

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
        return cls(Confusion(*space), ThresholdSweep(*space), contours)

    def merge(self, other: Scores) -> None:
        self.confusion.merge(other.confusion)
        if other.num_cams:
            self.sweep.merge(other.sweep)
        for void, contour in self.contours.items():
            contour.merge(other.contours[void])
        self.n, self.num_cams = self.n + other.n, self.num_cams + other.num_cams
        self.rows += other.rows
        self.failed += other.failed


def run(args, failures) -> None:
    """args.pred_dir against the masks, see parse; prints a table, writes args.out and args.per_image."""
    protocol = Protocol(get_dataset(args.dataset), args.keys, args.bg_score)
    masks = find_masks(args, protocol.spec)
    results, rows = {}, []
    for folder in dict.fromkeys(args.pred_dir):
        if not folder.is_dir():
            raise InputError(f"--pred_dir {folder}: no such folder")
        scores = score_folder(folder, masks, protocol, failures, args.num_workers, args.quiet)
        if not scores.n:
            raise InputError(f"--pred_dir {folder}: no image of it could be scored")
        results[str(folder)] = summary(scores, protocol)
        rows += [(str(folder), *row) for row in scores.rows]
    names = short_names(list(results))
    print(table({names[folder]: _flat(row) for folder, row in results.items()}, COLUMNS))
    print(class_table({names[folder]: row for folder, row in results.items()}, protocol.spec))
    if args.out:
        write_json(args.out, to_json(results))
    if args.per_image:
        write_csv(args.per_image, ("pred_dir", "image", "miou", "pixel_accuracy"), rows)


def find_masks(args, spec: DatasetSpec) -> dict[str, Path]:
    """stem -> mask: those of --data_dir's split, or of --mask_dir, where --list may name some of them."""
    mask_dir, names = args.mask_dir, args.list
    if args.data_dir:
        if not spec.mask_dir or args.split not in spec.lists:
            raise InputError(f"--split {args.split}: not known of {spec.name}; give --mask_dir and --list")
        mask_dir, names = mask_dir or args.data_dir / spec.mask_dir, names or args.data_dir / spec.lists[args.split]
    if mask_dir is None:
        raise InputError("no masks; give --mask_dir, or --data_dir and --split")
    masks = find_images(mask_dir, "--mask_dir")
    stems = read_names(names) if names else list(masks)
    for stem in stems:
        if stem not in masks:
            raise InputError(f"{names} names {stem}, of which there is no mask in {mask_dir}")
    return {stem: masks[stem] for stem in stems}


def score_folder(folder: Path, masks, protocol: Protocol, failures, num_workers: int, quiet: bool) -> Scores:
    """All masks (stem -> file) against their predictions in folder; what cannot be used is added to failures."""
    pairs = present_pairs(masks, folder, partial(find_prediction, folder), "eval_sem_seg", failures)
    chunks = [pairs[i : i + CHUNK] for i in range(0, len(pairs), CHUNK)]
    total = Scores.empty(protocol.spec)
    done = parallel_map(partial(score_chunk, protocol=protocol), chunks, num_workers_for(num_workers, len(pairs)))
    for _, scores in progress(done, len(chunks), f"eval_sem_seg {folder.name}", quiet):
        for file, reason in scores.failed:
            failures.add("eval_sem_seg", file, reason)
        total.merge(scores)
    if 0 < total.num_cams < total.n:
        raise InputError(f"--pred_dir {folder}: {total.num_cams} of {total.n} files are CAMs; score label maps apart")
    return total


def score_chunk(pairs: list[Pair], protocol: Protocol) -> Scores:
    scores = Scores.empty(protocol.spec)
    for pair in pairs:
        try:
            add_image(scores, pair, protocol)
        except OSError as e:
            scores.failed.append((pair.pred, e.strerror or str(e)))
    return scores


def add_image(scores: Scores, pair: Pair, protocol: Protocol) -> None:
    """Raises OSError where a file is missing or damaged, sizes differ, or a value is no class."""
    gt, pred = _read_mask(pair.mask), read_prediction(pair.pred, protocol.keys)
    cams = pred if isinstance(pred, Cams) and not pred.has_background else None
    if cams is not None and not cams.labels.size:  # an image without a class has no map that could tell its size
        cams = Cams(cams.labels, np.zeros((0, *gt.shape), np.float32))
        pred = cams
    label = pred.label_map(protocol.bg_score) if isinstance(pred, Cams) else pred
    if label.shape != gt.shape:
        raise OSError(f"is {label.shape[::-1]}, its mask {pair.mask} {gt.shape[::-1]} (width, height)")
    image = Confusion(protocol.spec.num_classes, protocol.spec.ignore)
    try:
        image.step(label, gt)
        if cams is not None:
            scores.sweep.step(cams.labels, cams.scores, gt)
        for contour in scores.contours.values():
            contour.step(label, gt)
    except ValueError as e:
        raise OSError(f"{e} (mask {pair.mask})") from e
    scores.confusion.merge(image)
    scores.n += 1
    scores.num_cams += cams is not None
    results = image.get_results() if image.matrix.any() else {"miou": np.nan, "pixel_accuracy": np.nan}
    scores.rows.append((pair.pred.stem, *(round(float(results[key]), 6) for key in ("miou", "pixel_accuracy"))))


def _read_mask(path: Path) -> np.ndarray:
    try:
        return read_label(path)
    except OSError as e:
        raise OSError(f"its mask {path} {e}") from e


def summary(scores: Scores, protocol: Protocol) -> dict:
    """Of CAMs, the IoUs are those of the best threshold; threshold_sweep has them all."""
    names = protocol.spec.names
    results = scores.confusion.get_results()
    sweep = {}
    if scores.num_cams:
        sweep = scores.sweep.get_results()
        results = sweep.pop("best")
    contours = {void: contour.get_results() for void, contour in scores.contours.items()}
    iou = dict(zip(names, results.pop("iou").tolist(), strict=True))
    return {
        "n": scores.n,
        **results,
        "iou": iou,
        "absent": [name for name, value in iou.items() if np.isnan(value)],
        "contour": {
            "void_left_out": _contour_row(contours["left_out"], names),
            "void_as_background": _contour_row(contours["background"], names),
            **({"bg_score": protocol.bg_score} if scores.num_cams else {}),
        },
        **({"threshold_sweep": sweep} if sweep else {}),
    }


def _contour_row(results: dict, names: tuple[str, ...]) -> dict:
    f = dict(zip(names[1:], results["f"][1:].tolist(), strict=True))
    return {"mean_f": results["mean_f"], "mean_f_absent_1": results["mean_f_absent_1"], "f": f}


def _flat(row: dict) -> dict:
    """What the table shows. contour_f_published: void as background, absent classes as 1."""
    contour = row["contour"]
    published = contour["void_as_background"]["mean_f_absent_1"]
    flat = {**row, "contour_f": contour["void_left_out"]["mean_f"], "contour_f_published": published}
    sweep = row.get("threshold_sweep")
    return flat | ({"best_threshold": sweep["best_threshold"]} if sweep else {})


def class_table(results: dict[str, dict], spec: DatasetSpec) -> str:
    """IoU a class, a column a folder; absent: neither in masks nor predictions."""
    width = max(len(name) for name in spec.names) + 2
    lines = [f"{'IoU':{width}}" + "  ".join(results)]
    for name in spec.names:
        cells = ((row["iou"][name], max(6, len(folder))) for folder, row in results.items())
        text = "  ".join(f"{'absent' if np.isnan(v) else f'{v:.3f}':>{w}}" for v, w in cells)
        lines.append(f"{name:{width}}{text}")
    return "\n".join(lines)


def parse(argv: list[str] | None = None):
    parser = evaluator_parser(__doc__)
    add_evaluator_flags(parser)
    parser.add_argument("--dataset", required=True, help="voc12, coco14, or a file of class names (.json, .txt)")
    parser.add_argument("--mask_dir", type=Path, help="masks; each needs a prediction of its name")
    parser.add_argument("--list", type=Path, help="score only the images that this file names, one a line")
    parser.add_argument("--data_dir", type=Path, help="root of the data set, instead of --mask_dir and --list")
    parser.add_argument("--split", default="val", help="of --data_dir")
    keys = "what key 0 of CAM files is: the first foreground class, or (label) the background, as in CRF maps"
    parser.add_argument("--keys", choices=list(FIRST_LABEL), default="foreground", help=keys)
    parser.add_argument("--bg_score", type=fraction, default=0.25, help="background's score in CAMs, for contour F")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    failures = Strict(args.allow_missing)
    status = exit_status(lambda: run(args, failures))
    failures.tell()
    return status


if __name__ == "__main__":
    sys.exit(main())
