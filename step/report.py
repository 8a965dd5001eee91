"""A page of results that opens from disk, in any browser, without a network.

Reads   the images of --sal_dataset_dir, or of --eval_splits; their masks; RESULT_DIR/<kind> of misc/report/kinds.py,
        metrics.json, scores/, settings/, train*.csv, doubtful.csv, whichever are there
Writes  RESULT_DIR/report.html; RESULT_DIR/report_files/<name>.webp, the thumbnails of an image side by side

Scores are those that the evaluators left: an image whose label or mask is newer than its scores has none here. Of a
large set the page shows a sample (sample_of), and says so.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data.datasets import DatasetSpec
from misc.files.held import Held
from misc.files.images import read_gray, read_image, read_mask
from misc.files.predictions import Cams, read_label, read_prediction
from misc.files.store import fingerprint, read_json, require_writable, write_text
from misc.report import page as report
from misc.report.kinds import SALIENCY, SEGMENTATION, Kind, folders, is_outdated
from misc.report.page import Column, Record
from misc.report.score_files import digest_of, read_rows, read_scores
from misc.run.evaluation import Files
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.progress import progress, talk_of
from pgt.metrics.doubt import soft_distance
from step.sets import each_image, mask_dir_of, open_eval, open_segmented, open_shown, open_train

Sources = dict[Column, Files]  # of those that are there
SHOWN = ("mae", "max_f", "s_measure", "miou")  # of the scores of an image
MOST = 4000  # images on the page: a browser opens so many at once
_DOUBTFUL = 4  # one in so many of a sample is there for its doubt


@dataclass(frozen=True)
class Entry:
    """An image: its files, one for each column (the image first), None where it has none; where its thumbnails go; the
    part of the set that it belongs to, where the set has parts."""

    name: str
    files: tuple[Path | None, ...]
    thumb: Path
    part: str = ""


@dataclass(frozen=True)
class Layer:
    """A file as read. picture (H,W,3) or (H,W) uint8 to look at; values (H,W) uint8 gray or ids, or bool of a mask;
    filter: see misc.report.page.Record.filters."""

    picture: np.ndarray
    values: np.ndarray | None = None
    filter: str = ""


def run(args: Args, failures: Failures) -> None:
    """Of saliency maps and labels."""
    names, total = sample_of(lambda: (name for name, *_ in each_image(args)), read_doubts(args.result_dir), MOST)
    found = [one for one in each_image(args) if one[0] in names]
    images, masks = {name: path for name, path, _ in found}, {name: mask for name, _, mask in found if mask}
    dirs = {k: d for k, d in folders(SALIENCY, args).items() if not is_outdated(k, images, args)}
    root = args.manifest or args.sal_dataset_dir
    place = root.parent if root.is_file() else root
    sources = sources_of(place, images, dirs)
    if mask_dir := mask_dir_of(args):
        sources[Column("mask", "mask", "mask", mask_dir)] = masks
    make_report(args, failures, f"Pseudo labels of {root.resolve().name}", sources, total)


def run_classes(args: Args, failures: Failures) -> None:
    """Of maps and labels of classes."""
    parts = list(open_shown(args).values())
    images, masks = {}, {}
    for part in parts:
        images |= zip(part.images.names, part.images.files, strict=True)
        masks |= part.masks
    names, total = sample_of(lambda: images, read_doubts(args.result_dir), MOST)
    images = {name: path for name, path in images.items() if name in names}
    sources = sources_of(parts[0].images.files[0].parent, images, folders(SEGMENTATION, args))
    if parts[0].mask_dir:
        sources[Column("mask", "mask", "classes", parts[0].mask_dir)] = {
            name: masks[name] for name in images if name in masks
        }
    name = "toy" if args.toy else (args.data_dir or args.dataset_root).resolve().name
    make_report(args, failures, f"Pseudo labels of {name}", sources, total, parts[0].spec, parts_of(args))


def parts_of(args: Args) -> dict[str, str]:
    """name -> the part of the set, of the images of its train and of the parts that are scored or segmented."""
    parts = {"train": open_train(args), **open_eval(args), **open_segmented(args)}
    return {name: split for split, part in reversed(parts.items()) for name in part.images.names}


def sources_of(image_dir: Path, images: Files, dirs: Mapping[Kind, Path]) -> Sources:
    """The columns of the images and of each kind of map or label."""
    sources: Sources = {Column("image", "image", "photo", image_dir): images}
    for kind, folder in dirs.items():
        column = Column(kind.key, kind.title, kind.style, folder)
        sources[column] = {name: path for name in images if (path := folder / f"{name}{kind.suffix}").is_file()}
    return sources


def make_report(
    args: Args,
    failures: Failures,
    title: str,
    sources: Sources,
    total: int,
    spec: DatasetSpec | None = None,
    parts: Mapping[str, str] | None = None,
) -> None:
    """Writes the report of any results: the first column is the photo, one with the key "mask" is the truth, and the
    others that are no heat maps are the labels whose disagreement is told (assess).

    args: result_dir, num_workers, overwrite, and those of talk_of; total: how many images there are, of which sources
    have those to show; spec: the label space of the columns of classes;
    parts: name -> the part of the set. An image with a corrupt file is added to failures and left out.
    """
    columns, thumbs = tuple(sources), args.result_dir / "report_files"
    require_writable(thumbs)
    names, parts = sources[columns[0]], parts or {}
    doubts = {name: doubt for name, doubt in read_doubts(args.result_dir) if name in names}
    entries = [
        Entry(name, tuple(files.get(name) for files in sources.values()), thumbs / f"{name}.webp", parts.get(name, ""))
        for name in names
    ]
    work = partial(make_one, columns=columns, spec=spec, overwrite=args.overwrite)
    done = parallel_map(work, entries, num_workers_for(args.num_workers, len(entries)))
    scores = {column.key: read_scores(args.result_dir, column.key, names) for column in columns}
    shown, unscored = {}, 0
    for entry, result in progress(done, len(entries), "report", talk_of(args)):
        if isinstance(result, OSError):
            if entry.files[0] not in failures:
                failures.add("report", entry.files[0], result)
            continue
        record, digests = result
        rows = {key: scores[key].get((entry.name, digest)) for key, digest in digests.items()}
        own = {f"{k}.{name}": round(row[name], 4) for k, row in rows.items() if row for name in SHOWN if name in row}
        own |= {"doubt": round(doubts[entry.name], 4)} if entry.name in doubts else {}
        unscored += None in rows.values() and not any(path in failures for path in entry.files if path)
        shown[entry] = replace(record, values={**record.values, **own})
    evaluate = "the eval passes" if spec else "eval"
    if unscored:
        print(f"report: {unscored} image(s) have labels or masks newer than their scores: run {evaluate}")
    if len(entries) < total:
        worst = ", the most doubtful among them" * bool(doubts)
        print(f"report: a sample of {len(entries)} of {total} images{worst}")
    counts = {"failed": len(entries) - len(shown), "unscored": unscored, "evaluate": evaluate, "total": total}
    path = args.result_dir / "report.html"
    write_text(path, report.page(title, page_data(args.result_dir, columns, shown, spec) | counts))
    print(f"report: {len(shown)} images, in {path}")


def read_doubts(result_dir: Path) -> Iterator[tuple[str, float]]:
    """Names and their doubts from 0 to 1, of RESULT_DIR/doubtful.csv; what is no number is left out."""
    for row in read_rows(result_dir / "doubtful.csv"):
        try:
            doubt = float(row["doubt"])
        except (KeyError, TypeError, ValueError):
            continue
        if row.get("name") and math.isfinite(doubt):
            yield row["name"], doubt


def sample_of(
    names: Callable[[], Iterable[str]], doubts: Iterable[tuple[str, float]], most: int
) -> tuple[set[str], int]:
    """-> all names, or where there are more than `most` so many of them: the most doubtful for a quarter, where doubts
    are known, and of the rest every n-th; and how many there are. Of millions none but the sample is held."""
    worst = {name for name, _ in heapq.nlargest(most // _DOUBTFUL, doubts, key=itemgetter(1))}
    total, chosen = 0, set()
    for name in names():
        total += 1
        if name in worst:
            chosen.add(name)
    if total <= most:
        return {*names()}, total
    rest = (name for name in names() if name not in worst)
    places = {*np.linspace(0, total - len(chosen) - 1, most - len(chosen)).astype(int).tolist()}
    return chosen | {name for place, name in enumerate(rest) if place in places}, total


def advice(columns: Sequence[Column], measures: Sequence[Mapping], is_scored: bool, of_classes: bool) -> str:
    """What to do where there are no scores, by what there is; empty where there are."""
    if is_scored:
        return ""
    labels = [c for c in columns if c.style in ("gray", "classes") and c.key != "mask"]
    passes = "make_sem_seg or make_seg" if of_classes else "make_label or make_slic"
    if not labels:
        return f"No labels yet: run {passes}."
    if any(c.key == "mask" for c in columns):
        return f"There are masks, and no scores: run {'the eval passes' if of_classes else 'eval'}."
    sort = next((m["name"] for m in measures if m["key"] in report.OF_IMAGES), None)
    if sort:
        return f"No masks, so no scores: sort the images by {sort} to find the labels worth a look."
    another = "make_seg" if of_classes else "run_slic.py"
    then = f"run {another}, then the report again, and sort by how much the two differ"
    return f"No masks, so no scores, and one kind of label, which nothing can be compared with: {then}."


def page_data(
    result_dir: Path, columns: Sequence[Column], shown: Mapping[Entry, Record], spec: DatasetSpec | None = None
) -> dict:
    """All that misc/report/page*.js draws."""
    titles = {kind.key: kind.title for kind in (SEGMENTATION if spec else SALIENCY)} | {c.key: c.title for c in columns}
    scores = report.score_parts(read_json(result_dir / "metrics.json"), titles)
    kinds = [c.key for c in columns[1:] if c.key != "mask"]
    kinds += [row["kind"] for table in scores["tables"] for row in table["rows"]]
    measures = report.measures(columns, shown.values())
    return {
        "columns": [
            {"key": c.key, "title": c.title, "style": c.style, "base": report.url(c.folder, result_dir) + "/"}
            for c in columns
        ],
        "kinds": list(dict.fromkeys(kinds)),
        "measures": measures,
        **scores,
        "thresholds": list(range(255, -1, -report.EVERY)),
        "curves": report.mean_curves(result_dir, columns),
        "losses": report.training_curves(result_dir),
        "settings": report.settings(result_dir, titles),
        "advice": advice(columns, measures, bool(scores["tables"]), spec is not None),
        "parts": sorted({entry.part for entry in shown if entry.part}, key=lambda part: (part != "train", part)),
        "classes": report.class_legend(shown.values(), spec) if spec else [],
        "filters": report.filters(spec.palette if spec else None),
        "images": [_image(entry, record, columns, measures, result_dir) for entry, record in shown.items()],
    }


def _image(entry: Entry, record: Record, columns: Sequence[Column], measures: list[dict], result_dir: Path) -> dict:
    files = [path and report.url(path, c.folder) for path, c in zip(entry.files, columns, strict=True)]
    values = [record.values.get(m["key"]) for m in measures]
    image = {"name": entry.name, "size": record.size, "tile": record.tile, "files": files, "values": values}
    extra = {"classes": record.classes, "filters": record.filters, "part": entry.part}
    return {**image, "thumb": report.url(entry.thumb, result_dir), **{k: v for k, v in extra.items() if v}}


def make_one(
    entry: Entry, columns: Sequence[Column], spec: DatasetSpec | None = None, overwrite: bool = False
) -> tuple[Record, dict[str, str]]:
    """Writes the thumbnails of one image, unless they are up to date -> what is said of it, and digests_of its files.
    Raises OSError where a file of it is corrupt."""
    files = {column: Held(path) for column, path in zip(columns, entry.files, strict=True) if path}
    made_from = fingerprint(
        *(files[c].getvalue() if c in files else b"" for c in columns),
        {
            "columns": [(c.key, c.style) for c in columns],
            "there": [c in files for c in columns],
            "thumbnail": [report.LONG_SIDE, report.QUALITY],
            "classes": spec and [spec.num_classes, spec.ignore],
        },
    )
    digests = digests_of(files)
    if not overwrite and (record := report.read_record(entry.thumb, made_from)):
        return record, digests
    layers = {column: read_layer(column.style, file, spec) for column, file in files.items()}
    pictures = [layers[c].picture if c in layers else None for c in columns]
    picture, tile = report.strip(pictures, [c.style for c in columns])
    filters = {str(k): layers[c].filter for k, c in enumerate(columns) if c in layers and layers[c].filter}
    record = Record(size=pictures[0].shape[1::-1], tile=tile, filters=filters, **assess(layers, spec))
    report.write_strip(entry.thumb, picture, record, made_from)
    return record, digests


def digests_of(files: Mapping[Column, Held]) -> dict[str, str]:
    """kind -> digest of those files of an image that are scored: classes against classes, all others against masks."""
    truth = next((column for column in files if column.key == "mask"), None)
    return {
        column.key: digest_of(file, files[truth])
        for column, file in files.items()
        if truth and column.style != "photo" and column != truth
        if (column.style == "classes") == (truth.style == "classes")
    }


def read_layer(style: str, file: Held, spec: DatasetSpec | None = None) -> Layer:
    """Raises OSError where the file is not a whole picture or, in a column of style heat, CAMs of classes."""
    if style == "photo":
        return Layer(read_image(file))
    if style == "classes":
        return _read_classes(file, spec)
    if style == "heat" and file.path.suffix in (".npz", ".npy"):
        return _read_cams(file)
    gray = read_gray(file)
    if style == "mask":
        mask = read_mask(file)
        return Layer(mask * np.uint8(255), mask, "binary" if gray.max() == 1 else "")
    return Layer(gray, gray)


def _read_classes(file: Held, spec: DatasetSpec) -> Layer:
    ids = read_label(file)
    with Image.open(file) as image:
        if image.mode == "P":
            return Layer(np.asarray(image.convert("RGB")), ids)
    return Layer(spec.palette[ids & 255], ids, "palette")


def _read_cams(file: Held) -> Layer:
    """The strongest class of each pixel, over the strongest of all."""
    cams = read_prediction(file)
    if not isinstance(cams, Cams):
        raise OSError(f"{file.path} holds no CAMs")
    scores = cams.scores[cams.labels > 0]
    best = scores.max(axis=0).clip(0) if scores.size else np.zeros((1, 1), np.float32)
    gray = cv2.convertScaleAbs(best, alpha=255 / max(float(best.max()), 1e-12))
    return Layer(gray, gray)


def assess(layers: Mapping[Column, Layer], spec: DatasetSpec | None = None) -> dict:
    """values and classes of a Record. The first two labels are compared with each other, further ones with both; labels
    of two sizes are not."""
    there = {column.key: (column.style, layer.values) for column, layer in layers.items() if column.style != "photo"}
    truth = there.pop("mask", None)
    values = {
        f"{key}.share": float(_foreground(pred, spec).mean() if style == "classes" else pred.mean() / 255)
        for key, (style, pred) in there.items()
    }
    labels = {key: one for key, one in there.items() if one[0] != "heat"}
    for i, (key, one) in enumerate(labels.items()):
        others = [other for other in [*labels.values()][: min(i, 2)] if _are_alike(one, other)]
        if others:
            void = spec.ignore if one[0] == "classes" else None
            name = "disagreement" if i == 1 else f"{key}.disagreement"
            values[name] = float(np.mean([disagreement(other[1], one[1], void) for other in others]))
    named = [pred for style, pred in (*there.values(), *([truth] if truth else [])) if style == "classes"]
    ids = np.unique(named[-1][_foreground(named[-1], spec)]).tolist() if named else []
    return {"values": {key: round(value, 4) for key, value in values.items()}, "classes": ids}


def _are_alike(one: tuple[str, np.ndarray], other: tuple[str, np.ndarray]) -> bool:
    return (one[0], one[1].shape) == (other[0], other[1].shape)


def _foreground(ids: np.ndarray, spec: DatasetSpec) -> np.ndarray:
    return (ids != 0) & (ids != spec.ignore)


def disagreement(a: np.ndarray, b: np.ndarray, void: int | None = None) -> float:
    """How much two labels (H,W) of an image differ: 0 alike, 1 nothing in common.

    Of soft labels (void None; uint8) soft_distance. Of class ids the share of the pixels, void ones left out, that
    differ.
    """
    if void is not None:
        valid = (a != void) & (b != void)
        return float((a != b)[valid].mean()) if valid.any() else 0.0
    return soft_distance(a, b)
