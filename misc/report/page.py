"""A page to look at results with: scores, curves, and every image beside its maps, labels and mask.

The page is one HTML file that needs no network: style (page.css), script (page*.js) and data stand in it. Pictures are
files beside it: thumbnails, one strip per image, and the full-size files where they lie. This module turns results into
the data of the page; step/report.py collects them.
"""

from __future__ import annotations

import html
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import cv2
import numpy as np
from PIL import Image

from misc.files.images import limit_side
from misc.files.store import read_json, replacing
from misc.report.kinds import TRAININGS
from misc.report.overview import cam_overlay
from misc.report.score_files import read_curves, read_rows, rounded

if TYPE_CHECKING:  # data stands on misc
    from data.datasets import DatasetSpec

STYLES = ("photo", "heat", "gray", "mask", "classes")
LONG_SIDE = 192  # of a thumbnail, in pixels
QUALITY = 78  # of its WebP file
EVERY = 3  # curves have a point at every third threshold: 255, 252, ..., 0
MAX_POINTS = 400  # of a training curve
SCRIPTS = ("page", "page_scores", "page_gallery", "page_detail")  # .js, one after the other in one function
_DESCRIPTION = 0x010E  # EXIF ImageDescription
_AT = re.compile(r"(\w+)_at_0?([\d.]+)")  # a score at a threshold

# score -> (its title, which end is better)
SCORES = {
    "n": ("images", None),
    "mae": ("MAE", "low"),
    "max_f": ("max F", "high"),
    "mean_f": ("mean F", "high"),
    "adp_f": ("adaptive F", "high"),
    "weighted_f": ("weighted F", "high"),
    "s_measure": ("S", "high"),
    "e_measure": ("E", "high"),
    "miou": ("mIoU", "high"),
    "contour_f": ("contour F", "high"),
    "best_threshold": ("best threshold", None),
    "mask_free_threshold": ("threshold without masks", None),
    "miou_mask_free": ("mIoU there", "high"),
    "share": ("foreground share", None),
    "disagreement": ("label disagreement", None),
    "doubt": ("doubt", None),
}
OF_IMAGES = ("doubt", "disagreement")  # of these, those that are of an image, not of one of its columns


@dataclass(frozen=True)
class Column:
    """A picture that every image may have. folder: its files lie below it.

    style: photo; heat (a map, in colours over the photo); gray (a soft or binary label); mask (foreground as
    misc.files.images.read_mask has it); classes (a palette PNG, or a gray one of class ids).
    """

    key: str
    title: str
    style: str
    folder: Path

    def __post_init__(self):
        if self.style not in STYLES:
            raise ValueError(f"the style of column {self.key} must be one of {', '.join(STYLES)}, got {self.style!r}.")


@dataclass(frozen=True)
class Record:
    """What the page says of one image; kept in its thumbnail, but for its scores.

    size, tile: (width, height) of the image and of one thumbnail; values: "<column>.<score>" or "disagreement" ->
    number; classes: ids in it; filters: columns (by number) whose file needs a filter other than its style's to be
    seen.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    values: dict[str, float] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)
    filters: dict[str, str] = field(default_factory=dict)


def strip(pictures: Sequence[np.ndarray | None], styles: Sequence[str]) -> tuple[np.ndarray, tuple[int, int]]:
    """Thumbnails side by side: pictures (H,W,3) or (H,W) uint8, the photo first; None leaves its place gray.

    Returns the strip (h, n*w, 3) uint8 and (w, h), the photo's shape with a long side of at most LONG_SIDE.
    """
    tile = limit_side(pictures[0].shape[:2], LONG_SIDE)[::-1]
    photo = cv2.resize(pictures[0], tile, interpolation=cv2.INTER_AREA)
    tiles = [photo]
    for picture, style in zip(pictures[1:], styles[1:], strict=True):
        small = np.uint8(128) if picture is None else cv2.resize(picture, tile, interpolation=cv2.INTER_AREA)
        if style == "heat" and picture is not None:
            small = cam_overlay(photo, small)
        tiles.append(np.broadcast_to(small if small.ndim == 3 else small[..., None], photo.shape))
    return np.hstack(tiles), tile


def write_strip(path: Path, picture: np.ndarray, record: Record, made_from: str) -> None:
    """Writes picture (H,W,3) uint8 as WebP with the record and its fingerprint in it, atomically."""
    exif = Image.Exif()
    exif[_DESCRIPTION] = json.dumps({"from": made_from, **asdict(record)}, separators=(",", ":"))
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="WEBP", quality=QUALITY, exif=exif)


def read_record(path: Path, made_from: str) -> Record | None:
    """The record in the thumbnail at path; None where there is none with this fingerprint."""
    try:
        with Image.open(path) as image:
            held = json.loads(image.getexif()[_DESCRIPTION])
            if held.pop("from") != made_from:
                return None
            image.load()  # a header is no picture yet
        return Record(**held)
    except Exception:  # whatever a damaged file leads to
        return None


def url(path: Path, start: Path) -> str:
    """Address of path for a page in the folder start: relative where it can be, escaped byte by byte."""
    path, start = Path(os.path.abspath(path)), Path(os.path.abspath(start))  # noqa: PTH100 - keeps links as they are
    if path.drive != start.drive:
        return path.as_uri()
    return quote(Path(os.path.relpath(path, start)).as_posix(), errors="surrogateescape")


def measures(columns: Sequence[Column], records: Iterable[Record]) -> list[dict]:
    """What images can be sorted by: every value that any record has, column by column, in the order of SCORES."""
    held = {key for record in records for key in record.values}
    keys = [*((key, None) for key in OF_IMAGES), *((f"{c.key}.{score}", c) for c in columns for score in SCORES)]
    titles = [(key, c, *SCORES[key.rpartition(".")[2]]) for key, c in keys if key in held]
    return [
        {"key": key, "of": c and c.title, "kind": c and c.key, "name": title, "better": better}
        for key, c, title, better in titles
    ]


def mean_curves(folder: Path, columns: Sequence[Column]) -> list[dict]:
    """Of each column that has them, at EVERY threshold."""
    return [
        {"kind": c.key, "title": c.title, **{name: rounded(values[::EVERY], 4) for name, values in curves.items()}}
        for c in columns
        if (curves := read_curves(folder, c.key))["f"]
    ]


def score_parts(metrics: Mapping, titles: Mapping[str, str]) -> dict[str, list]:
    """metrics.json -> tables, sweeps and bars. Rows that share a score stand in one table, bars of the same classes in
    one chart.

    metrics: kind -> scores, or kind -> split -> scores, with iou (class -> value) and sweep (the mIoU at the thresholds
    0, 0.01, ...) where it is of classes; what cannot be shown is left out. titles: kind -> its name, in their order.
    Of each: title, kind, split ("" where there are none) and part, the split's number.
    """
    tables, sweeps, bars = [], [], {}
    stages = [*titles, *metrics]
    found = [one for one in _walk(metrics) if not all(isinstance(value, dict) for value in one[1].values())]
    found.sort(key=lambda one: stages.index(one[0][0]))
    splits = sorted(dict.fromkeys("/".join(path[1:]) for path, _ in found), key=lambda split: split != "train")
    for path, scores in found:
        split = "/".join(path[1:])
        who = {"title": " · ".join([titles.get(path[0], path[0]), *path[1:]]), "kind": path[0], "split": split}
        who["part"] = splits.index(split)
        numbers = {key: value for key, value in scores.items() if _is_number(value)}
        if numbers:
            held = next((rows for rows in tables if any({*numbers} & {*other} - {"n"} for _, other in rows)), None)
            held.append((who, numbers)) if held else tables.append([(who, numbers)])
        sweep, iou = scores.get("sweep"), scores.get("iou")
        if isinstance(sweep, list) and sweep and all(map(_is_number, sweep)):
            sweeps.append({**who, "x": [i / 100 for i in range(len(sweep))], "y": sweep})
        if isinstance(iou, dict) and iou:
            bars.setdefault(tuple(iou), []).append((who, iou))
    return {"tables": [_table(rows) for rows in tables], "sweeps": sweeps, "bars": [_bars(h) for h in bars.values()]}


def _walk(node: Mapping, path: tuple[str, ...] = ()):
    for key, value in node.items():
        if isinstance(value, dict) and key != "iou":
            yield (*path, key), value
            yield from _walk(value, (*path, key))


def _table(rows: Sequence[tuple[dict, Mapping]]) -> dict:
    held = dict.fromkeys(key for _, numbers in rows for key in numbers)
    keys = sorted(held, key=[*SCORES, *held].index)
    columns = [{"key": key, **dict(zip(("title", "better"), _title(key), strict=True))} for key in keys]
    rows = sorted(rows, key=lambda row: row[0]["part"])
    return {"columns": columns, "rows": [{**who, "values": [numbers.get(k) for k in keys]} for who, numbers in rows]}


def _title(key: str) -> tuple[str, str | None]:
    """Of a score, in words, and which end is better."""
    if match := _AT.fullmatch(key):
        title, better = _title(match[1])
        return f"{title} at {match[2]}", better
    return SCORES.get(key, (key.replace("_", " "), "high"))


def _bars(held: Sequence[tuple[dict, Mapping]]) -> dict:
    """Best class first, by the first of those held; classes that are absent have no value."""
    rows = [
        {"name": name, "values": [v[name] if _is_number(v[name]) else None for _, v in held]} for name in held[0][1]
    ]
    rows.sort(key=lambda row: -1 if row["values"][0] is None else row["values"][0], reverse=True)
    return {"title": "IoU of each class, in %", "kinds": [who for who, _ in held], "rows": rows}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def training_curves(folder: Path) -> list[dict]:
    """Of train.csv and train_<what>.csv, in the order of the stages."""
    order = [f"train_{key}" for key in TRAININGS]
    paths = sorted(folder.glob("train_*.csv"), key=lambda path: (*_place(path.stem, order), path.stem))
    paths = [folder / "train.csv", *paths]
    titles = ["Training loss" + _of(path.stem.removeprefix("train")) for path in paths]
    found = zip(titles, map(training_curve, paths), strict=True)
    return [{"title": title, **curve} for title, curve in found if curve]


def _place(word: str, order: Sequence[str]) -> tuple[int]:
    return (order.index(word) if word in order else len(order),)


def _of(what: str) -> str:
    """ "_seg" -> of what the training was."""
    key = what.removeprefix("_")
    return f" of {TRAININGS.get(key, key.replace('_', ' '))}" if key else ""


def training_curve(path: Path) -> dict | None:
    """train.csv (columns step, loss, ...) -> x and y, at most MAX_POINTS means; None where there is nothing to draw."""
    points = [point for row in read_rows(path) if all(map(math.isfinite, point := _point(row)))]
    if len(points) < 2:
        return None
    x, y = np.transpose([np.mean(part, axis=0) for part in np.array_split(points, min(len(points), MAX_POINTS))])
    return {"x": rounded(x, 4), "y": rounded(y)}


def _point(row: Mapping[str, str]) -> tuple[float, float]:
    try:
        return float(row["step"]), float(row["loss"])
    except (KeyError, TypeError, ValueError):
        return math.nan, math.nan  # the unfinished last line of a run that goes on


def settings(folder: Path, titles: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """heading -> (name, value as text), of the records in folder/settings (misc/run/records.py): what of each result is
    other than the default comes first, then all of each. titles: kind -> its name, in their order."""
    words = {**{f"train_{key}": f"training{_of(key)}" for key in TRAININGS}, **titles, "crf": "CRF labels"}
    paths = sorted((folder / "settings").glob("*.json"), key=lambda path: (*_place(path.stem, [*words]), path.stem))
    records = {words.get(path.stem, path.stem): read_json(path) for path in paths}
    found: dict[str, dict[str, str]] = {}
    for what, held in records.items():
        changed = {k: v for k, v in _part(held, "changed").items() if isinstance(v, dict)}
        texts = {k: f"{_text(v.get('is'))}, not {_text(v.get('default'))}" for k, v in changed.items()}
        found[f"{what}: other than the default"] = texts
    for what, held in records.items():
        made = {k: held[k] for k in ("made", "version", "network", "weights", "sha256") if k in held}
        found[f"{what}: all settings"] = {k: _text(v) for k, v in {**made, **_part(held, "settings")}.items()}
    found["Versions"] = {k: _text(v) for held in records.values() for k, v in _part(held, "versions").items()}
    return {title: list(pairs.items()) for title, pairs in found.items() if pairs}


def _part(held: Mapping, key: str) -> dict:
    return held[key] if isinstance(held.get(key), dict) else {}


def _text(value: object) -> str:
    return " ".join(map(_text, value)) if isinstance(value, list) else "none" if value is None else str(value)


def class_legend(records: Iterable[Record], spec: DatasetSpec) -> list[dict]:
    """The classes that occur: id, name, colour, and in how many images."""
    counts = Counter(i for record in records for i in record.classes)
    names = dict(enumerate(spec.names))
    return [
        {"id": i, "name": names.get(i, f"class {i}"), "color": f"#{bytes(spec.palette[i % 256]).hex()}", "count": n}
        for i, n in sorted(counts.items())
    ]


def filters(palette: np.ndarray | None = None) -> dict[str, dict]:
    """Filters with which a browser colours gray files: name -> type of table, and tables of 0..255 for R, G and B.

    palette (256,3) uint8: of files that hold class ids.
    """
    turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    heat = {"type": "table", "tables": turbo[::5].T.tolist()}  # interpolated between; 0 and 255 are among them
    found = {"heat": heat, "binary": {"type": "discrete", "tables": [[0, *[255] * 255]] * 3}}
    return found if palette is None else {**found, "palette": {"type": "discrete", "tables": palette.T.tolist()}}


def page(title: str, data: Mapping) -> str:
    """The HTML of the page. Any text may be in title and data (JSON-able, without NaN)."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # ASCII: lone surrogates of file names survive
    parts = {
        "title": html.escape(title.encode("utf-8", "replace").decode()),
        "css": _template("css"),
        "js": "\n".join(_script(name) for name in SCRIPTS),
        "data": text.replace("<", "\\u003c"),
    }
    return re.sub(r"{{(\w+)}}", lambda m: parts[m[1]], _template("html"))


def _template(kind: str) -> str:
    return Path(__file__).with_suffix(f".{kind}").read_text(encoding="utf-8")


def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8")
