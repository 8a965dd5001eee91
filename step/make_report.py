"""A page of results that opens from disk, in any browser, without a network.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam, cam_pamr, cam_slic and masks, whichever are there;
        RESULT_DIR/args*.json, metrics.json, train*.csv, whichever are there
Writes  RESULT_DIR/report.html; RESULT_DIR/report_files/<stem>.webp, the thumbnails of an image side by side
Paper   pgt/metrics/saliency.py
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.datasets import DatasetSpec
from data.saliency import open_folder
from misc.files.images import find_images, read_gray, read_image, read_mask
from misc.files.predictions import Cams, read_label, read_prediction
from misc.files.store import fingerprint, read_json, require_writable, write_text
from misc.report import page as report
from misc.report.page import Column, Record
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.saliency import LEVELS, saliency_scores
from pgt.metrics.segmentation import Confusion
from step.eval import label_dirs, outdated

TITLES = {"cam": "CAM", "cam_pamr": "pixel label", "cam_slic": "superpixel label"}
EVERY = 3  # curves have a point at every third threshold: 255, 252, ..., 0


@dataclass(frozen=True)
class Entry:
    """An image: its files, one for each column (the image first), None where it has none; where its thumbnails go."""

    name: str
    files: tuple[Path | None, ...]
    thumb: Path


@dataclass(frozen=True)
class Layer:
    """A file as read. picture (H,W,3) or (H,W) uint8 to look at; values (H,W) uint8 gray or ids, or bool of a mask;
    filter: see misc.report.page.Record.filters."""

    picture: np.ndarray
    values: np.ndarray | None = None
    filter: str = ""


def run(args, failures) -> None:
    folder = open_folder(args.sal_dataset_dir, args.limit)
    mask_dir = getattr(args, "mask_dir", None) or folder.mask_dir
    dirs = label_dirs(args)
    current = {k: d for k, d in dirs.items() if not outdated(dirs.get("cam", d), d, list(folder.images))}
    columns = [Column("image", "image", "photo", args.sal_dataset_dir)]
    columns += [Column(k, TITLES.get(k, k), "heat" if k == "cam" else "gray", d) for k, d in current.items()]
    found = [folder.images, *({stem: d / f"{stem}.png" for stem in folder.images} for d in current.values())]
    if mask_dir:
        columns.append(Column("mask", "mask", "mask", mask_dir))
        found.append(find_images(mask_dir, "--mask_dir"))
    thumbs = args.result_dir / "report_files"
    entries = [
        Entry(stem, tuple(_existing(files.get(stem)) for files in found), thumbs / f"{stem}.webp")
        for stem in folder.images
    ]
    make_report(args, failures, f"Pseudo labels of {args.sal_dataset_dir.resolve().name}", columns, entries)


def _existing(path: Path | None) -> Path | None:
    return path if path and path.is_file() else None


def make_report(
    args,
    failures,
    title: str,
    columns: Sequence[Column],
    entries: Sequence[Entry],
    spec: DatasetSpec | None = None,
    scores: Mapping | None = None,
) -> None:
    """Writes the report of any results: the first column is the photo, one with the key "mask" is the truth, and the
    first two others that are no heat maps are the labels whose disagreement is told.

    args: result_dir, num_workers, overwrite, quiet; spec: the label space of the columns of classes; scores: what to
    show for metrics.json, from 0 to 1. An image with a
    corrupt file is added to failures and left out.
    """
    require_writable(args.result_dir / "report_files")
    work = partial(make_one, columns=tuple(columns), spec=spec, overwrite=args.overwrite)
    done = parallel_map(work, entries, num_workers_for(args.num_workers, len(entries)))
    shown, records = [], []
    for entry, result in progress(done, len(entries), "make_report", args.quiet):
        if not isinstance(result, OSError):
            shown.append(entry)
            records.append(result)
        elif entry.files[0] not in failures:
            failures.add("make_report", entry.files[0], result)
    data = page_data(args.result_dir, columns, shown, records, spec, scores)
    path = args.result_dir / "report.html"
    write_text(path, report.page(title, {**data, "failed": len(entries) - len(shown)}))
    print(f"make_report: {len(shown)} images, in {path}")


def page_data(
    result_dir: Path,
    columns: Sequence[Column],
    entries: Sequence[Entry],
    records: Sequence[Record],
    spec: DatasetSpec | None = None,
    scores: Mapping | None = None,
) -> dict:
    """All that misc/report.js draws."""
    scores = read_json(result_dir / "metrics.json") if scores is None else scores
    scores = report.score_parts(scores, {c.key: c.title for c in columns})
    kinds = [c.key for c in columns[1:] if c.key != "mask"] + [
        row["kind"] for t in scores["tables"] for row in t["rows"]
    ]
    measures = report.measures(columns, records)
    images = [_image(e, r, columns, measures, result_dir) for e, r in zip(entries, records, strict=True)]
    return {
        "columns": [
            {"key": c.key, "title": c.title, "style": c.style, "base": report.url(c.folder, result_dir) + "/"}
            for c in columns
        ],
        "kinds": list(dict.fromkeys(kinds)),
        "measures": measures,
        **scores,
        "thresholds": list(range(LEVELS - 1, -1, -EVERY)),
        "curves": report.mean_curves(columns, records),
        "losses": report.training_curves(result_dir),
        "settings": report.settings(result_dir),
        "classes": report.class_legend(records, spec) if spec else [],
        "filters": report.filters(spec.palette if spec else None),
        "images": images,
    }


def _image(entry: Entry, record: Record, columns: Sequence[Column], measures: list[dict], result_dir: Path) -> dict:
    files = [path and report.url(path, c.folder) for path, c in zip(entry.files, columns, strict=True)]
    values = [record.values.get(m["key"]) for m in measures]
    image = {"name": entry.name, "size": record.size, "tile": record.tile, "files": files, "values": values}
    extra = {"classes": record.classes, "filters": record.filters}
    return {**image, "thumb": report.url(entry.thumb, result_dir), **{k: v for k, v in extra.items() if v}}


def make_one(
    entry: Entry, columns: Sequence[Column], spec: DatasetSpec | None = None, overwrite: bool = False
) -> Record:
    """Scores one image and writes its thumbnails, unless they are up to date. Raises OSError where a file of it is
    corrupt."""
    data = [path and path.read_bytes() for path in entry.files]
    made_from = fingerprint(
        *(d or b"" for d in data),
        {
            "columns": [(c.key, c.style) for c in columns],
            "there": [d is not None for d in data],
            "thumbnail": [report.LONG_SIDE, report.QUALITY, EVERY],
            "classes": spec and [spec.num_classes, spec.ignore],
        },
    )
    if not overwrite and (record := report.read_record(entry.thumb, made_from)):
        return record
    layers = [path and read_layer(c.style, path, spec) for c, path in zip(columns, entry.files, strict=True)]
    picture, tile = report.strip([layer and layer.picture for layer in layers], [c.style for c in columns])
    record = Record(
        size=layers[0].picture.shape[1::-1],
        tile=tile,
        filters={str(k): layer.filter for k, layer in enumerate(layers) if layer and layer.filter},
        **assess(columns, layers, spec),
    )
    report.write_strip(entry.thumb, picture, record, made_from)
    return record


def read_layer(style: str, path: Path, spec: DatasetSpec | None = None) -> Layer:
    """Raises OSError where the file is not a whole picture or, in a column of style heat, CAMs of classes."""
    if style == "photo":
        return Layer(read_image(path))
    if style == "classes":
        return _read_classes(path, spec)
    if style == "heat" and path.suffix in (".npz", ".npy"):
        return _read_cams(path)
    gray = read_gray(path)
    if style == "mask":
        mask = read_mask(path)
        return Layer(mask * np.uint8(255), mask, "binary" if gray.max() == 1 else "")
    return Layer(gray, gray)


def _read_classes(path: Path, spec: DatasetSpec) -> Layer:
    ids = read_label(path)
    with Image.open(path) as image:
        if image.mode == "P":
            return Layer(np.asarray(image.convert("RGB")), ids)
    return Layer(spec.palette[ids & 255], ids, "palette")


def _read_cams(path: Path) -> Layer:
    """The strongest class of each pixel, over the strongest of all."""
    cams = read_prediction(path)
    if not isinstance(cams, Cams):
        raise OSError(f"{path} holds no CAMs")
    scores = cams.scores[cams.labels > 0]
    best = scores.max(axis=0).clip(0) if scores.size else np.zeros((1, 1), np.float32)
    gray = cv2.convertScaleAbs(best, alpha=255 / max(float(best.max()), 1e-12))
    return Layer(gray, gray)


def assess(columns: Sequence[Column], layers: Sequence[Layer | None], spec: DatasetSpec | None = None) -> dict:
    """values, curves and classes of a Record; files of another size than their mask or each other are not compared."""
    there = {c.key: (c.style, layer.values) for c, layer in zip(columns[1:], layers[1:], strict=True) if layer}
    mask_style, mask = there.pop("mask", (None, None))
    values, curves = {}, {}
    for key, (style, pred) in there.items():
        if mask is not None and pred.shape == mask.shape:
            scores, curve = _compare(style, pred, mask_style, mask, spec)
            values |= {f"{key}.{name}": value for name, value in scores.items()}
            curves |= {key: curve} if curve else {}
        values[f"{key}.share"] = float(_foreground(pred, spec).mean() if style == "classes" else pred.mean() / 255)
    labels = [(style, pred) for style, pred in there.values() if style != "heat"][:2]
    if len(labels) == 2 and len({(style, pred.shape) for style, pred in labels}) == 1:
        void = spec.ignore if labels[0][0] == "classes" else None
        values["disagreement"] = disagreement(labels[0][1], labels[1][1], void)
    named = [pred for style, pred in (*there.values(), (mask_style, mask)) if style == "classes"]
    ids = np.unique(named[-1][_foreground(named[-1], spec)]).tolist() if named else []
    return {"values": {k: round(v, 4) for k, v in values.items()}, "curves": curves, "classes": ids}


def _foreground(ids: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    return (ids != 0) & (ids != spec.ignore)


def _compare(style: str, pred: np.ndarray, mask_style: str, mask: np.ndarray, spec: DatasetSpec | None):
    """Scores of a prediction, and its curves where it is a saliency map."""
    if style == "classes":
        return ({"miou": mean_iou(pred, mask, spec)} if mask_style == "classes" else {}), {}
    if mask_style == "classes":
        return {}, {}
    scores = saliency_scores(pred, mask)
    curve = {key: np.rint(1000 * getattr(scores, key)[::EVERY]).astype(int).tolist() for key in report.CURVES}
    return {key: float(getattr(scores, key)) for key in ("mae", "max_f", "s_measure")}, curve


def mean_iou(pred: np.ndarray, mask: np.ndarray, spec: DatasetSpec) -> float:
    """Of one image, over the classes in either; 0 for a mask that is all void. Raises OSError for what is no class."""
    confusion = Confusion(spec.num_classes, spec.ignore)
    try:
        confusion.step(pred, mask)
    except ValueError as e:
        raise OSError(str(e)) from e
    return float(confusion.get_results()["miou"]) if confusion.matrix.any() else 0.0


def disagreement(a: np.ndarray, b: np.ndarray, void: int | None = None) -> float:
    """How much two labels (H,W) of an image differ: 0 alike, 1 nothing in common.

    Of soft labels (void None; uint8) 1 - sum(min) / sum(max), the Jaccard distance without a threshold: a small object
    counts as much as a large one. Of class ids the share of the pixels, void ones left out, that differ.
    """
    if void is not None:
        valid = (a != void) & (b != void)
        return float((a != b)[valid].mean()) if valid.any() else 0.0
    union = int(np.maximum(a, b).sum())
    return 1 - int(np.minimum(a, b).sum()) / union if union else 0.0
