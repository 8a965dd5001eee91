"""Sets for weakly supervised segmentation: images with their classes, and masks to score against where there are any.

VOC and COCO as data/prepare.py leaves them, or your own:

    ROOT/labels.csv (file,label;label); a folder per class below ROOT, ROOT/images or ROOT/train; COCO's
    ROOT/annotations/instances_*.json beside ROOT/images
    ROOT/class_names.txt                   the classes in the order of their labels 1, 2, ...; else by name
    ROOT/masks/<name>.png                  optional, for scores: palette or gray, 0 background, the labels, 255 void;
                                           also <name>_mask.png and the like
    ROOT/train.txt, ROOT/val.txt           optional: names of the images of each part; or labels_train.csv, ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data import coco14, voc12
from data.datasets import DatasetSpec
from data.labelled import LabelledImages, named_in, open_labelled, spread
from data.layouts import detect_layout
from misc.errors import InputError
from misc.files.images import image_size
from misc.files.listing import find_masks
from misc.files.predictions import read_label

_MASK_DIRS = ("SegmentationClass", "masks")


@dataclass(frozen=True)
class SegmentationSet:
    """images of one part of a data set; spec: its classes; mask_dir: where its masks are, None where it has none."""

    images: LabelledImages
    spec: DatasetSpec
    mask_dir: Path | None

    @cached_property
    def masks(self) -> dict[str, Path]:
        """name -> mask of the images that have one."""
        return find_masks(self.mask_dir, self.images.names, "the masks") if self.mask_dir else {}


def open_segmentation(
    root: Path, spec: DatasetSpec | None = None, split: str = "train", flag: str = "--data_dir"
) -> SegmentationSet:
    """One part of a set; spec: its classes, else those that it names itself: of all parts those of train. Where nothing
    says what is train, all is.

    Raises InputError as data.labelled.open_labelled does, for a part that is not there, and for masks (a sample is
    read) that have another size than their image, hold other labels than the spec, or lack those of their images.
    """
    root = voc12.find_root(root) or root
    if not root.is_dir():
        raise InputError(f"{flag} {root}: no such folder")
    class_names = spec.class_names if spec else named_in(root) or _names_of_train(root, split, flag)
    part = _part(root, split, flag, own=spec is None)
    images = open_labelled(**part, class_names=class_names, flag=flag)
    spec = spec or DatasetSpec(root.name, images.class_names)
    mask_dirs = [root / name for name in (spec.mask_dir, *_MASK_DIRS) if name]
    found = SegmentationSet(images, spec, next((folder for folder in mask_dirs if folder.is_dir()), None))
    _require_masks(found, flag)
    return found


def _names_of_train(root: Path, split: str, flag: str) -> tuple[str, ...] | None:
    """None of train itself, and where there is none."""
    try:
        return None if split == "train" else open_labelled(**_part(root, "train", flag), flag=flag).class_names
    except InputError:
        return None


def has_split(root: Path, split: str) -> bool:
    """Whether a set of one's own says what belongs to this part."""
    root = voc12.find_root(root) or root
    try:
        part = _part(root, split, "")
    except InputError:
        return False
    return part.get("layout") not in _LISTED or _LISTED[part["layout"]](root, split)


# layouts whose own files say what belongs to a part -> whether they do
_LISTED: dict[str, Callable[[Path, str], bool]] = {
    "voc12": lambda root, split: voc12.list_of(root, split).is_file(),
    "coco": lambda root, split: bool(coco14.find_instances(root, split)),
}


def _part(root: Path, split: str, flag: str, own: bool = True) -> dict:
    """Arguments of open_labelled. own: where nothing says what is train, all is."""
    if (root / f"labels_{split}.csv").is_file():
        return {"root": root, "layout": "csv", "split": split}
    layout = detect_layout(root, flag)  # of the whole: a list may say what its parts are
    if layout in _LISTED:
        whole = own and split == "train" and not _LISTED[layout](root, split)
        return {"root": root, "layout": layout, "split": None if whole else split}
    if layout in ("folders", "ilsvrc_cls"):
        root = root / "images" if (root / "images").is_dir() else root
        if (root / split).is_dir():
            return {"root": root, "split": split}
    lists = [folder / f"{split}.txt" for folder in (root, root.parent, root / "ImageSets" / "Segmentation")]
    list_file = next((file for file in lists if file.is_file()), None)
    if list_file is None and split != "train":
        raise InputError(f"{flag} {root}: no part {split}; needed is labels_{split}.csv, or a list {split}.txt")
    return {"root": root, "list_file": list_file}


def _require_masks(found: SegmentationSet, flag: str) -> None:
    """A sample of masks is read, and held against the labels of the images."""
    labelled, absent, example = Counter(), Counter(), {}
    void = None
    for i in spread(len(found.images)):
        if (mask := found.masks.get(found.images.names[i])) is None:
            continue
        values = set(np.unique(_read_mask(found.images.files[i], mask, found.spec, flag)).tolist())
        own = set((np.flatnonzero(found.images.labels[i]) + 1).tolist())
        labelled.update(own)
        absent.update(own - values)
        example.update(dict.fromkeys(own - values, mask))
        void = mask if own and found.spec.ignore in values and values <= {0, found.spec.ignore} else void
    if absent and absent.total() == labelled.total() and void:
        raise InputError(
            f"{flag}: mask {void} holds 0 and {found.spec.ignore} alone, which is background and void, and so do "
            f"others; write the labels of the classes, 1 for {found.spec.class_names[0]}"
        )
    worst = [k for k, n in absent.items() if n == labelled[k] >= 3 or 2 * absent.total() > labelled.total()]
    if worst:
        label = max(worst, key=lambda k: absent[k])
        name = found.spec.class_names[label - 1]
        raise InputError(
            f"{flag}: mask {example[label]} holds no pixel of label {label}, {name}, which its image is labelled with "
            f"({absent[label]} of {labelled[label]} that were looked at are so): put class_names.txt, the classes in "
            "the order of the labels, into the folder of the set"
        )


def _read_mask(image: Path, mask: Path, spec: DatasetSpec, flag: str) -> np.ndarray:
    """Raises InputError where a mask does not fit its image, or its labels are not the spec's."""
    try:
        label, shape = read_label(mask), image_size(image)
    except OSError as e:
        raise InputError(f"{flag}: mask {mask} cannot be read ({e})") from e
    if label.shape != shape:
        turned = "; if EXIF turns the image, turn the mask" if label.shape == shape[::-1] else ""
        raise InputError(f"{flag}: mask {mask} is {label.shape[::-1]}, its image {shape[::-1]} (width, height){turned}")
    outside = (label < 0) | (label >= spec.num_classes) & (label != spec.ignore)
    if outside.any():
        raise InputError(f"{flag}: mask {mask} holds {label[outside][0]}, which is no label of {spec.name}")
    return label
