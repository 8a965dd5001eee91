"""Readers of labelled images: where each layout keeps its files, and how it says what is in them.

A reader looks at names and lists alone, never into a picture; data/labelled.py checks what it finds.
"""
# ruff: noqa: PTH118, PTH119, PTH122 - paths are text here: a million Path objects take ten times as long

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data import coco14, voc12
from data.datasets import read_lines
from misc.errors import InputError, UnknownClassError
from misc.files.listing import SUFFIXES, subfolders, walk
from misc.files.store import read_text

_SYNSET = re.compile(r"n\d{8}")
_VOC_ID = re.compile(r"\d{4}_\d{6}")
_FILE_WORDS = frozenset(["file", "files", "filename", "file_name", "image", "images", "image_name", "path", "img"])
_LABEL_WORDS = frozenset(["label", "labels", "class", "classes", "category", "categories"])
_NO_LABEL = frozenset(("nan", "none", "null", "n/a"))
_PARTS = frozenset(("train", "val", "valid", "validation", "test"))
_CLS_ROOTS = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_DET_ROOTS = ("ILSVRC2014_DET_train", "ILSVRC/Data/DET/train", "Data/DET/train")


@dataclass(frozen=True)
class Request:
    """root, named by flag in messages; class_names: the classes to be told apart, None where the data set says them;
    split: which part; stems: those of the images that are wanted, where a reader can save work by it."""

    root: Path
    flag: str
    class_names: tuple[str, ...] | None = None
    split: str | None = None
    stems: frozenset[str] | None = None

    def error(self, problem: str) -> InputError:
        return InputError(f"{self.flag} {self.root}: {problem}")


@dataclass(frozen=True)
class Found:
    """classes: image file -> names of its classes; class_names: the layout's own, in order; passed: kind -> how many
    entries of its folders were passed over."""

    classes: Mapping[str, Collection[str]]
    class_names: tuple[str, ...]
    passed: Counter = field(default_factory=Counter)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """By name; where all are numbers by these: 2 before 10."""
    names = list(names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if all(map(str.isdecimal, names)) else None))


def read_folders(request: Request) -> Found:
    """A folder per class, pictures at any depth below it. Where root holds parts alone (train, val, ...): of split."""
    root = _class_root(request)
    names = in_order(subfolders(root))
    if not names:
        raise request.error("no folder in it; give one with a subfolder of images per class")
    classes: dict[str, tuple[str]] = {}
    passed: Counter = Counter()
    for name in names:
        own = dict.fromkeys(walk(os.path.join(root, name), passed), (name,))
        classes |= own
        if not own:
            raise request.error(f"no picture in the class folder {name} ({', '.join(sorted(SUFFIXES))}); remove it")
    return Found(classes, names, passed)


def _class_root(request: Request) -> Path:
    root = next((request.root / below for below in _CLS_ROOTS if (request.root / below).is_dir()), request.root)
    parts = subfolders(root) if root.is_dir() else []
    if request.split or (parts and _PARTS.issuperset(parts)):
        root = root / (request.split or "train")
    if not root.is_dir():
        raise request.error(f"no folder {root}; give one with a subfolder of images per class")
    return root


def read_ilsvrc_cls(request: Request) -> Found:
    """ILSVRC-CLS: a folder a synset."""
    found = read_folders(request)
    odd = [name for name in found.class_names if not _SYNSET.fullmatch(name)]
    if odd:
        raise request.error(f"the folder {odd[0]} is no synset (n and 8 digits); the layout is folders")
    return found


def read_csv(request: Request) -> Found:
    """Columns file,label[;label...], files relative to the csv: root itself, or in it labels.csv, of a split
    labels_<split>.csv. Rows of one file are joined. Cells may be apart by tabs or semicolons too; or there is a column
    of 0 and 1 for each class, which its header names."""
    root = request.root
    path = root if root.is_file() else root / (f"labels_{request.split}.csv" if request.split else "labels.csv")
    classes: dict[str, set[str]] = {}
    try:
        text = read_text(path)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=(apart := _delimiter(text)))
        rows = [(number, cells) for number, row in enumerate(rows, 1) if any(cells := [cell.strip() for cell in row])]
    except (OSError, ValueError, csv.Error) as e:
        raise InputError(f"{request.flag} {path}: cannot be read as a CSV file in UTF-8 ({e})") from e
    header = rows.pop(0)[1] if rows and rows[0][1][0].lower() in _FILE_WORDS else []
    columns = header[1:] if _has_columns(header, [cells for _, cells in rows]) else []
    for number, cells in rows:
        where = f"{request.flag} {path}: row {number}"
        if not cells[0] or (len(cells) != 2 and not columns and (apart == "," or len(cells) < 2)):
            raise InputError(f"{where} is {','.join(cells)!r}, not file,label;label")
        image = os.path.normpath(os.path.join(path.parent, cells[0]))
        own = [name for name, cell in zip(columns, cells[1:], strict=False) if cell in _YES]
        own = own if columns else [label for cell in cells[1:] for label in _labels_of(cell, request, where)]
        classes.setdefault(image, set()).update(own)
    return Found(classes, tuple(columns) or in_order(set().union(*classes.values())))


_YES, _NOT = ("1", "1.0", "True", "true"), ("0", "0.0", "False", "false", "")


def _delimiter(text: str) -> str:
    """What follows the first cell, which is a file, or the word for it in a header."""
    first = next(filter(str.strip, text.splitlines()), "")
    starts = ((mark, first.partition(mark)[0].strip().strip('"')) for mark in ",;\t" if mark in first)
    files = (mark for mark, cell in starts if cell.lower() in _FILE_WORDS or _suffix(cell) in SUFFIXES)
    return next(files, ",")


def _has_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether there is a column of 0 and 1 for each class."""
    named = len(header) > 2 or (len(header) == 2 and header[1].lower() not in _LABEL_WORDS)
    return named and all(cell in _YES + _NOT for cells in rows for cell in cells[1:])


def _labels_of(cell: str, request: Request, where: str) -> list[str]:
    """The labels in a cell: apart by ; or |, or as Python writes a list. Raises InputError for what may be several
    labels or one, and for words that say that there is none."""
    known = request.class_names or ()
    if cell in known:
        return [cell]
    listed = cell[:1] + cell[-1:] in ("[]", "()", "{}")
    labels = [label.strip(" '\"") for label in (cell[1:-1].split(",") if listed else re.split("[;|]", cell))]
    for label in labels:
        if label not in known and ("," in label or label.lower() in _NO_LABEL):
            raise InputError(
                f"{where}: {label!r}: labels are apart by ;, and a cell without a label is empty; or list the name in "
                "class_names.txt"
            )
    return [label for label in labels if label]


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def read_ilsvrc_det(request: Request) -> Found:
    """ILSVRC-DET: an image has class k where train_pos_<k>.txt or train_part_<k>.txt names it."""
    image_root = _det_images(request.root)
    lists = _det_lists(request.root)
    if image_root is None or lists is None:
        raise request.error("give a folder with ILSVRC2014_DET_train/ and data/det_lists/train_pos_1.txt, ...")
    numbers = [path.stem.removeprefix("train_pos_") for path in lists.glob("train_pos_*.txt")]
    names = _det_names(lists.parent, max(int(number) for number in numbers if number.isdigit()))
    passed: Counter = Counter()
    stored = {os.path.splitext(path)[0]: path for path in walk(image_root, passed)}
    classes: dict[str, set[str]] = {}
    for k, name in enumerate(names, 1):
        files = lists / f"train_pos_{k}.txt", lists / f"train_part_{k}.txt"
        listed = [read_lines(file, request.flag) for file in files if file == files[0] or file.exists()]
        if not any(listed):
            raise request.error(f"class {k} is empty: {files[0]} names no image; get it again")
        for line in (line for lines in listed for line in lines):
            path = os.path.join(image_root, os.path.normpath(line.split()[0]))
            classes.setdefault(stored.get(path, f"{path}.JPEG"), set()).add(name)
    return Found(classes, names, passed)


def _det_images(root: Path) -> str | None:
    return next((str(root / below) for below in _DET_ROOTS if (root / below).is_dir()), None)


def _det_lists(root: Path) -> Path | None:
    """In the data set, in its devkit, or in this repository's data/, where the published code has them."""
    folders = [root / "data" / "det_lists", root / "det_lists", *sorted(root.glob("*/data/det_lists"))]
    folders.append(Path(__file__).resolve().parent / "det_lists")
    return next((folder for folder in folders if (folder / "train_pos_1.txt").is_file()), None)


def _det_names(data: Path, num_classes: int) -> tuple[str, ...]:
    """Those of the devkit's data/map_det.txt (synset, number, name); the numbers where it is not there."""
    file = data / "map_det.txt"
    rows = [line.split(maxsplit=2) for line in read_lines(file, "names of the classes")] if file.is_file() else []
    named = {row[1]: row[2].strip() for row in rows if len(row) == 3}
    return tuple(named.get(str(k), str(k)) for k in range(1, num_classes + 1))


def read_voc12(request: Request) -> Found:
    """VOC: every object that Annotations/<id>.xml names; ids of all annotations, or of a split, see data/voc12.py. The
    classes are VOC's 20 where images are called as VOC calls them; of a set of one's own that is laid out so, its own.
    """
    root = voc12.find_root(request.root)
    if root is None:
        raise request.error(f"no {voc12.IMAGES} in it; give the folder VOC2012 of the devkit")
    if request.split:
        ids = voc12.read_split(root, request.split, request.flag)
    else:
        ids = request.stems or [path.stem for path in (root / voc12.ANNOTATIONS).glob("*.xml")]
    passed: Counter = Counter()
    images = {stem_of(path): path for path in walk(str(root / voc12.IMAGES), passed)}
    classes = {}
    for name in ids:
        annotation = root / voc12.ANNOTATIONS / f"{name}.xml"
        try:
            objects = voc12.read_objects(annotation)
        except OSError as e:
            raise InputError(f"{request.flag} {annotation}: {e.strerror or e}; get it again") from e
        classes[images.get(name, str(root / voc12.IMAGES / f"{name}.jpg"))] = objects
    found, known = frozenset().union(*classes.values()), voc12.SPEC.class_names
    is_voc = found.issubset(known) and all(map(_VOC_ID.fullmatch, ids))
    return Found(classes, known if is_voc else in_order(found), passed)


def read_coco(request: Request) -> Found:
    """COCO: see found_in; the instances json is root itself or lies in it, of the split or of train."""
    instances = coco14.read_instances(_instances_file(request), request.flag)
    found = found_in(instances, request.class_names)
    own = instances.categories.items() <= coco14.CATEGORIES.items()  # a part of COCO may lack some of its classes
    unknown = {*(request.class_names or ())} - {*found.class_names} - {*(coco14.SPEC.class_names if own else ())}
    if unknown:
        problem = f"the class {min(unknown)} is no category of {instances.path.name}; check the class names"
        raise UnknownClassError(str(request.error(problem)))
    return found


def found_in(instances: coco14.Instances, class_names: Sequence[str] | None = None) -> Found:
    """Categories of all annotations of an image, crowds too, in ascending number; of class_names, where they are given,
    alone, by COCO's names or VOC's."""
    names: dict[int, str | None] = dict(instances.categories)
    if class_names is not None:
        names = {number: _name_among(class_names, name) for number, name in instances.categories.items()}
    folder = coco14.image_dir(instances)
    classes = {}
    for number, image in instances.images.items():
        own = {names[annotation["category_id"]] for annotation in instances.annotations[number]}
        classes[os.path.join(folder, image["file_name"])] = own - {None}
    return Found(classes, tuple(filter(None, names.values())))


def _name_among(class_names: Sequence[str], name: str) -> str | None:
    return next((n for n in (name, coco14.VOC_NAMES.get(name)) if n in class_names), None)


def _instances_file(request: Request) -> Path:
    found = coco14.find_instances(request.root, request.split)
    if len(found) > 1 and not request.split:
        found = coco14.find_instances(request.root, "train")
    if len(found) != 1:
        there = ", ".join(path.name for path in coco14.find_instances(request.root)) or "none"
        raise request.error(f"needed is one instances json, there: {there}; give the file itself")
    return found[0]


LAYOUTS: dict[str, Callable[[Request], Found]] = {
    "ilsvrc_det": read_ilsvrc_det,
    "ilsvrc_cls": read_ilsvrc_cls,
    "folders": read_folders,
    "csv": read_csv,
    "voc12": read_voc12,
    "coco": read_coco,
}


def detect_layout(root: Path, flag: str, split: str | None = None) -> str:
    """Which of LAYOUTS root has. Raises InputError where it has none."""
    if root.is_file():
        layout = {".csv": "csv", ".json": "coco"}.get(root.suffix.lower())
    elif voc12.find_root(root):
        layout = "voc12"
    elif coco14.find_instances(root):
        layout = "coco"
    elif _det_images(root):
        layout = "ilsvrc_det"
    elif (root / (f"labels_{split}.csv" if split else "labels.csv")).is_file():
        layout = "csv"
    else:
        names = subfolders(_class_root(Request(root, flag, split=split)))
        layout = ("ilsvrc_cls" if all(map(_SYNSET.fullmatch, names)) else "folders") if names else None
    if layout is None:
        known = (
            "a folder per class, labels.csv (file,label;label), a VOC devkit, COCO's annotations/instances_*.json, or "
            "ILSVRC"
        )
        raise InputError(f"{flag} {root}: no labelled images in it; they are {known}")
    return layout


def stem_of(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
