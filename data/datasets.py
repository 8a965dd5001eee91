"""Data set facts: classes, colours and layout. Nothing outside this folder knows how many classes there are."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.files.labels import voc_palette
from misc.files.listing import CUT, name_of
from misc.files.store import read_text

BACKGROUND = "background"
_IGNORE = "__ignore__"  # labelme's void, which is no class
_NUMBERED = re.compile(r"(\d+)[\s:,;.]+(.+)")
_LABELMAP = re.compile(r"([^:#]+):\d+,\d+,\d+:[^:]*:[^:]*")  # CVAT's labelmap.txt
_WITH_FLAG = re.compile(r"(\S+)\s+(?:-1|0|1)")  # a list of a class, as VOC has them


@dataclass(frozen=True)
class DatasetSpec:
    """class_names: the foreground classes; their labels are 1, 2, ... in this order, 0 is the background and `ignore`
    the void. mask_dir, and lists, split -> file of names: below the root of the data set, where it comes with masks.
    category_ids: what the data set's own annotation files call the classes (the labels where they have no other name);
    ids_in_names: whether file names end in the number that those files call the image.
    """

    name: str
    class_names: tuple[str, ...]
    ignore: int = 255
    mask_dir: str | None = None
    lists: Mapping[str, str] = field(default_factory=dict)
    category_ids: tuple[int, ...] = ()
    ids_in_names: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of all labels, background first."""
        return BACKGROUND, *self.class_names

    @property
    def num_classes(self) -> int:
        """C, background included."""
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """(256,3) uint8 RGB: VOC's, of every set."""
        return voc_palette()

    def category_id(self, label: int) -> int:
        return self.category_ids[label - 1] if self.category_ids else label


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


_VOC_NAMES = _names(
    "aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person, "
    "pottedplant, sheep, sofa, train, tvmonitor"
)
_COCO_NAMES = _names(
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush"
)
_COCO_IDS = tuple(sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))
_MASKS = "SegmentationClass"


def _lists(*splits: str) -> dict[str, str]:
    return {split: f"ImageSets/Segmentation/{split}.txt" for split in splits}


# train_aug, and masks and lists of COCO, are made by data/prepare.py
DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("voc12", _VOC_NAMES, mask_dir=_MASKS, lists=_lists("train", "train_aug", "val", "trainval")),
        DatasetSpec(
            "coco14",
            _COCO_NAMES,
            mask_dir=_MASKS,
            lists=_lists("train", "val"),
            category_ids=_COCO_IDS,
            ids_in_names=True,
        ),
        DatasetSpec("saliency", ("salient object",)),
    )
}


def get_dataset(name: str, flag: str = "--dataset") -> DatasetSpec:
    """A name of the table, or a file of class names: .json (a list; or an object with "class_names" and, if need be,
    "ignore") or text, a name a line, also numbered, or CVAT's labelmap.txt. A background at the head of the names, in
    any spelling, is taken as label 0, which it is anyway.

    Raises InputError for anything else.
    """
    if name in DATASETS:
        return DATASETS[name]
    path = Path(name)
    try:
        text = read_text(path)
        held = json.loads(text) if path.suffix == ".json" else _names_of(text)
    except (OSError, ValueError) as e:
        known = ", ".join(DATASETS)
        raise InputError(f"{flag} {name}: neither {known} nor a file of class names that can be read ({e})") from e
    facts = held if isinstance(held, dict) else {"class_names": held}
    return _from_file(path.stem, facts, f"{flag} {name}")


def is_background(name: str) -> bool:
    """Also `_background_`, `__background__`, `Background`."""
    return name.strip("_ ").casefold() == BACKGROUND


def _names_of(text: str) -> list[str]:
    """The names in a text of lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if found := [m[1].strip() for m in map(_LABELMAP.fullmatch, lines) if m]:
        return found
    numbered = [m for m in map(_NUMBERED.fullmatch, lines) if m]
    numbers = [int(m[1]) for m in numbered]
    if len(lines) == len(numbered) > 1 and numbers in ([*range(len(lines))], [*range(1, len(lines) + 1)]):
        return [m[2] for m in numbered]
    return lines


def _from_file(name: str, facts: dict, where: str) -> DatasetSpec:
    names, ignore = facts.get("class_names"), facts.get("ignore", 255)
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError(f'{where}: give a list of names, or {{"class_names": [...], "ignore": 255}}')
    names = [n for n in names if n and n != _IGNORE]
    names = names[1:] if names and is_background(names[0]) else names
    if not names or len(set(names)) < len(names):
        raise InputError(f"{where}: no class name, or one of them twice")
    if any(map(is_background, names)):
        raise InputError(f"{where}: the background is label 0; put it first, or leave it out")
    if len(names) == 1 and re.search("[,;|\t]", names[0]):
        raise InputError(f"{where}: {names[0]!r} is one line; give a line to each name")
    if not isinstance(ignore, int) or not len(names) < ignore <= 65535:
        raise InputError(f"{where}: ignore must be a number above the {len(names)} labels, not {ignore}")
    return DatasetSpec(name, tuple(names), ignore)


def read_names(path: Path, flag: str = "--list", known: Collection[str] = ()) -> list[str]:
    """Names of the images that a list names, a line each: those of `known` where they are among them, whatever folders
    stand before them; else without folders. Raises InputError as read_entries does."""
    by_last: dict[str, list[str]] = {}
    for name in known:
        by_last.setdefault(name.rpartition("/")[2], []).append(name)

    def named(entry: str) -> str:
        parts = entry.split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        same = by_last.get(parts[-1], ())
        return next((end for end in ends if end in known), same[0] if len(same) == 1 else parts[-1])

    names = list(map(named, read_entries(path, flag)))
    if len(set(names)) < len(names):
        raise InputError(f"{flag} {path}: names an image twice")
    return names


def read_entries(path: Path, flag: str = "--list") -> list[str]:
    """What a list names, a line each: paths, without the suffix of a picture, an array or an annotation, in POSIX's
    way. Raises InputError for a list that cannot be read, is empty, or names a path twice."""
    entries = list(map(entry_of, read_lines(path, flag)))
    if not entries or len(set(entries)) < len(entries):
        raise InputError(f"{flag} {path}: no name in it, or one of them twice")
    return entries


def entry_of(line: str) -> str:
    """Dots and blanks may be of a name. What follows it is dropped in the lists that VOC has: a mark (-1, 0, 1) after
    the name, and a mask after the image."""
    line = line.strip()
    words = line.split()
    if marked := _WITH_FLAG.fullmatch(line):
        line = marked[1]
    elif all(Path(word).suffix.lower() in CUT for word in words):
        line = words[0]
    return name_of(line)


def read_lines(path: Path, flag: str) -> list[str]:
    """Those of a text of people that are not blank. Raises InputError where it cannot be read."""
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as e:
        raise InputError(f"{flag} {path}: cannot be read ({e})") from e
