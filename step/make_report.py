"""A page of results that opens from disk, in any browser, without a network.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam, cam_pamr, cam_slic and masks, whichever are there;
        RESULT_DIR/args.json, metrics.json, train.csv, whichever are there
Writes  RESULT_DIR/report.html; RESULT_DIR/report_files/<stem>.webp, the thumbnails of an image side by side
Paper   misc/metrics.py
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from data.saliency import open_folder
from misc import report
from misc.images import find_images, read_gray, read_image, read_mask
from misc.metrics import LEVELS, saliency_scores
from misc.parallel import num_workers_for, parallel_map, progress
from misc.report import Column, Record
from misc.store import fingerprint, read_json, require_writable, write_text
from step.eval import label_dirs, outdated

TITLES = {"cam": "CAM", "cam_pamr": "pixel label", "cam_slic": "superpixel label"}
EVERY = 3  # curves have a point at every third threshold: 255, 252, ..., 0
VOID = 255  # class id of pixels that do not count


@dataclass(frozen=True)
class Entry:
    """An image: its files, one for each column (the image first), None where it has none; where its thumbnails go."""

    name: str
    files: tuple[Path | None, ...]
    thumb: Path


@dataclass(frozen=True)
class Layer:
    """A file as read. picture (H,W,3) or (H,W) uint8 to look at; values (H,W) uint8 gray or ids, or bool of a mask;
    filter: see misc.report.Record.filters."""

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
    classes: Sequence[str] | None = None,
) -> None:
    """Writes the report of any results: the first column is the photo; one with the key "mask" is the truth.

    args: result_dir, num_workers, overwrite, quiet; classes: names by id, for columns of class ids. An image with a
    corrupt file is added to failures and left out.
    """
    require_writable(args.result_dir / "report_files")
    work = partial(make_one, columns=tuple(columns), overwrite=args.overwrite)
    done = parallel_map(work, entries, num_workers_for(args.num_workers, len(entries)))
    shown, records = [], []
    for entry, result in progress(done, len(entries), "make_report", args.quiet):
        if not isinstance(result, OSError):
            shown.append(entry)
            records.append(result)
        elif entry.files[0] not in failures:
            failures.add("make_report", entry.files[0], result)
    data = page_data(args.result_dir, columns, shown, records, classes)
    path = args.result_dir / "report.html"
    write_text(path, report.page(title, {**data, "failed": len(entries) - len(shown)}))
    print(f"make_report: {len(shown)} images, in {path}")


def page_data(
    result_dir: Path,
    columns: Sequence[Column],
    entries: Sequence[Entry],
    records: Sequence[Record],
    classes: Sequence[str] | None,
) -> dict:
    """All that misc/report.js draws."""
    metrics = read_json(result_dir / "metrics.json")
    kinds = [c.key for c in columns[1:] if c.key != "mask"]
    measures = report.measures(columns, records)
    images = [_image(e, r, columns, measures, result_dir) for e, r in zip(entries, records, strict=True)]
    return {
        "columns": [
            {"key": c.key, "title": c.title, "style": c.style, "base": report.url(c.folder, result_dir) + "/"}
            for c in columns
        ],
        "kinds": kinds + [kind for kind in metrics if kind not in kinds],
        "measures": measures,
        **report.score_parts(metrics, {c.key: c.title for c in columns}),
        "thresholds": list(range(LEVELS - 1, -1, -EVERY)),
        "curves": report.mean_curves(columns, records),
        "loss": report.training_curve(result_dir / "train.csv"),
        "settings": report.settings(result_dir / "args.json"),
        "classes": report.class_legend(records, classes),
        "filters": report.filters(),
        "images": images,
    }


def _image(entry: Entry, record: Record, columns: Sequence[Column], measures: list[dict], result_dir: Path) -> dict:
    files = [path and report.url(path, c.folder) for path, c in zip(entry.files, columns, strict=True)]
    values = [record.values.get(m["key"]) for m in measures]
    image = {"name": entry.name, "size": record.size, "tile": record.tile, "files": files, "values": values}
    extra = {"classes": record.classes, "filters": record.filters}
    return {**image, "thumb": report.url(entry.thumb, result_dir), **{k: v for k, v in extra.items() if v}}


def make_one(entry: Entry, columns: Sequence[Column], overwrite: bool = False) -> Record:
    """Scores one image and writes its thumbnails, unless they are up to date. Raises OSError where a file of it is
    corrupt."""
    data = [path and path.read_bytes() for path in entry.files]
    made_from = fingerprint(
        *(d or b"" for d in data),
        {
            "columns": [(c.key, c.style) for c in columns],
            "there": [d is not None for d in data],
            "thumbnail": [report.LONG_SIDE, report.QUALITY, EVERY],
        },
    )
    if not overwrite and (record := report.read_record(entry.thumb, made_from)):
        return record
    layers = [None if d is None else read_layer(c.style, d) for c, d in zip(columns, data, strict=True)]
    picture, tile = report.strip([layer and layer.picture for layer in layers], [c.style for c in columns])
    record = Record(
        size=layers[0].picture.shape[1::-1],
        tile=tile,
        filters={str(k): layer.filter for k, layer in enumerate(layers) if layer and layer.filter},
        **assess(columns, layers),
    )
    report.write_strip(entry.thumb, picture, record, made_from)
    return record


def read_layer(style: str, data: bytes) -> Layer:
    """Raises OSError where data is not a whole picture."""
    file = io.BytesIO(data)
    if style == "photo":
        return Layer(read_image(file))
    if style == "classes":
        return _read_classes(data)
    gray = read_gray(file)
    if style == "mask":
        mask = read_mask(io.BytesIO(data))
        return Layer(mask * np.uint8(255), mask, "binary" if gray.max() == 1 else "")
    return Layer(gray, gray)


def _read_classes(data: bytes) -> Layer:
    gray = read_gray(io.BytesIO(data))
    with Image.open(io.BytesIO(data)) as image:
        if image.mode == "P":
            return Layer(np.asarray(image.convert("RGB")), np.asarray(image))
    return Layer(report.voc_palette()[gray], gray, "palette")


def assess(columns: Sequence[Column], layers: Sequence[Layer | None]) -> dict:
    """values, curves and classes of a Record; files of another size than their mask or each other are not compared."""
    there = {c.key: (c.style, layer.values) for c, layer in zip(columns[1:], layers[1:], strict=True) if layer}
    mask = there.pop("mask", (None, None))[1]
    values, curves = {}, {}
    for key, (style, pred) in there.items():
        if mask is not None and pred.shape == mask.shape:
            scores, curve = _compare(style, pred, mask)
            values |= {f"{key}.{name}": value for name, value in scores.items()}
            curves |= {key: curve} if curve else {}
        values[f"{key}.share"] = float(np.mean(_foreground(pred)) if style == "classes" else pred.mean() / 255)
    labels = [(style, pred) for style, pred in there.values() if style != "heat"][:2]
    if len(labels) == 2 and labels[0][1].shape == labels[1][1].shape:
        values["disagreement"] = disagreement(labels[0][1], labels[1][1], classes=labels[0][0] == "classes")
    named = [pred for style, pred in there.values() if style == "classes"]
    named += [mask] if mask is not None and mask.dtype != bool else []
    ids = [int(i) for i in np.unique(named[-1]) if i not in (0, VOID)] if named else []
    return {"values": {k: round(v, 4) for k, v in values.items()}, "curves": curves, "classes": ids}


def _foreground(ids: np.ndarray) -> np.ndarray:
    return (ids != 0) & (ids != VOID)


def _compare(style: str, pred: np.ndarray, mask: np.ndarray) -> tuple[dict[str, float], dict]:
    if style == "classes":
        return {"miou": mean_iou(pred, mask)}, {}
    if mask.dtype != bool:  # a saliency map beside class ids: its foreground
        mask = _foreground(mask)
    scores = saliency_scores(pred, mask)
    curve = {key: np.rint(1000 * getattr(scores, key)[::EVERY]).astype(int).tolist() for key in report.CURVES}
    return {key: float(getattr(scores, key)) for key in ("mae", "max_f", "s_measure")}, curve


def mean_iou(pred: np.ndarray, mask: np.ndarray) -> float:
    """pred, mask (H,W) uint8 ids, 255 in mask left out -> mean IoU over the classes in either, background included."""
    valid = mask != VOID
    joint = np.bincount(mask[valid].astype(int) * 256 + pred[valid], minlength=256 * 256).reshape(256, 256)
    union = joint.sum(0) + joint.sum(1) - joint.diagonal()
    return float((joint.diagonal()[union > 0] / union[union > 0]).mean()) if valid.any() else 0.0


def disagreement(a: np.ndarray, b: np.ndarray, classes: bool = False) -> float:
    """How much two labels (H,W) uint8 of an image differ: 0 alike, 1 nothing in common.

    Of soft labels 1 - sum(min) / sum(max), the Jaccard distance without a threshold: a small object counts as much as
    a large one. Of class ids the share of the pixels, void ones left out, that differ.
    """
    if classes:
        valid = (a != VOID) & (b != VOID)
        return float((a != b)[valid].mean()) if valid.any() else 0.0
    union = int(np.maximum(a, b).sum())
    return 1 - int(np.minimum(a, b).sum()) / union if union else 0.0
