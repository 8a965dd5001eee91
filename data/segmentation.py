"""Sets for weakly supervised segmentation: images with their classes, and masks to score against where there are any.

VOC and COCO as data/prepare.py leaves them, or your own:

    ROOT/labels.csv (file,label;label), or a folder per class below ROOT/images or ROOT/train
    ROOT/class_names.txt                   the classes in the order of their labels 1, 2, ...; else by name
    ROOT/masks/<name>.png                  optional: palette or gray, 0 background, the labels, 255 void
    ROOT/train.txt, ROOT/val.txt           optional: names of the images of each part; or labels_train.csv, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data import voc12
from data.datasets import DatasetSpec
from data.labelled import LabelledImages, named_in, open_labelled, spread
from data.layouts import detect_layout
from misc.errors import InputError
from misc.files.images import image_size
from misc.files.predictions import read_label

_MASK_DIRS = ("SegmentationClass", "masks")


@dataclass(frozen=True)
class SegmentationSet:
    """images of one part of a data set; spec: its classes; mask_dir: where its masks are, None where it has none."""

    images: LabelledImages
    spec: DatasetSpec
    mask_dir: Path | None

    def mask_of(self, name: str) -> Path | None:
        """The mask of images.names[i], whether or not it is there."""
        return self.mask_dir / f"{name}.png" if self.mask_dir else None

    def masks(self) -> dict[str, Path]:
        """name -> mask of the images that have one."""
        masks = {name: self.mask_of(name) for name in self.images.names}
        return {name: path for name, path in masks.items() if path and path.is_file()}


def open_segmentation(
    root: Path, spec: DatasetSpec | None = None, split: str = "train", flag: str = "--data_dir"
) -> SegmentationSet:
    """One part of a set; spec: its classes, else those that it names itself. Where nothing says what is train, all is.

    Raises InputError as data.labelled.open_labelled does, for a part that is not there, and for masks (a sample is
    read) that have another size than their image or hold other labels than the spec.
    """
    root = voc12.find_root(root) or root
    if not root.is_dir():
        raise InputError(f"{flag} {root}: no such folder")
    class_names = spec.class_names if spec else named_in(root)
    images = open_labelled(**_part(root, split, flag), class_names=class_names, flag=flag)
    spec = spec or DatasetSpec(root.name, images.class_names)
    mask_dirs = [root / name for name in (spec.mask_dir, *_MASK_DIRS) if name]
    found = SegmentationSet(images, spec, next((folder for folder in mask_dirs if folder.is_dir()), None))
    _require_masks(found, flag)
    return found


def has_split(root: Path, split: str) -> bool:
    """Whether a set of one's own says what belongs to this part."""
    try:
        return bool(_part(voc12.find_root(root) or root, split, ""))
    except InputError:
        return False


def _part(root: Path, split: str, flag: str) -> dict:
    """Arguments of open_labelled."""
    if (root / f"labels_{split}.csv").is_file():
        return {"root": root, "layout": "csv", "split": split}
    layout = detect_layout(root, flag)  # of the whole: a list may say what its parts are
    if layout in ("voc12", "coco"):
        return {"root": root, "layout": layout, "split": split}
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
    for i in spread(len(found.images)):
        mask = found.mask_of(found.images.names[i])
        problem = _mask_problem(found.images.files[i], mask, found.spec) if mask and mask.is_file() else None
        if problem:
            raise InputError(f"{flag}: mask {mask} {problem}")


def _mask_problem(image: Path, mask: Path, spec: DatasetSpec) -> str | None:
    """What is wrong with a mask, None where it fits its image and its labels are the spec's."""
    try:
        label, shape = read_label(mask), image_size(image)
    except OSError as e:
        return f"cannot be read ({e})"
    if label.shape != shape:
        return f"is {label.shape[::-1]}, its image {shape[::-1]} (width, height)"
    outside = (label >= spec.num_classes) & (label != spec.ignore)
    return f"holds {label[outside][0]}, which is no label of {spec.name}" if outside.any() else None
