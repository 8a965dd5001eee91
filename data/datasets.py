"""Data set facts: classes, colours and layout. Nothing outside this folder knows how many classes there are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.files.labels import voc_palette

BACKGROUND = "background"


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
    "ignore") or text, a name a line. A "background" at the head of the names is taken as label 0, which it is anyway.

    Raises InputError for anything else.
    """
    if name in DATASETS:
        return DATASETS[name]
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
        held = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as e:
        known = ", ".join(DATASETS)
        raise InputError(f"{flag} {name}: neither {known} nor a file of class names that can be read ({e})") from e
    facts = held if isinstance(held, dict) else {"class_names": held}
    return _from_file(path.stem, facts, f"{flag} {name}")


def _from_file(name: str, facts: dict, where: str) -> DatasetSpec:
    names, ignore = facts.get("class_names"), facts.get("ignore", 255)
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise InputError(f'{where}: give a list of names, or {{"class_names": [...], "ignore": 255}}')
    names = [n for n in names if n]
    names = names[1:] if names[:1] == [BACKGROUND] else names
    if not names or len(set(names)) < len(names):
        raise InputError(f"{where}: no class name, or one of them twice")
    if not isinstance(ignore, int) or not len(names) < ignore <= 65535:
        raise InputError(f"{where}: ignore must be a number above the {len(names)} labels, not {ignore}")
    return DatasetSpec(name, tuple(names), ignore)


def read_names(path: Path, flag: str = "--list") -> list[str]:
    """Stems of the images that a list names, a line each, as VOC's lists do; what follows the first blank, folders and
    suffixes are dropped. Raises InputError for a list that cannot be read, is empty, or names an image twice."""
    stems = [Path(line.split()[0]).stem for line in read_lines(path, flag)]
    if not stems or len(set(stems)) < len(stems):
        raise InputError(f"{flag} {path}: no name in it, or one of them twice")
    return stems


def read_lines(path: Path, flag: str) -> list[str]:
    """Those of a text in UTF-8 that are not blank. Raises InputError where it cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as e:
        raise InputError(f"{flag} {path}: cannot be read ({e})") from e
