"""PASCAL VOC 2012, and any set laid out like it: JPEGImages, Annotations, ImageSets, SegmentationClass."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from data.archives import Archive
from data.datasets import DATASETS, read_names
from misc.files.images import find_images
from misc.files.store import read_text

SPEC = DATASETS["voc12"]
IMAGES, ANNOTATIONS, MASKS_AUG = "JPEGImages", "Annotations", "SegmentationClassAug"
# images of the split lists, and of train_aug
SIZES = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10582}
# thor is where the challenge lives since 2025
ARCHIVES = (
    Archive(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        1_999_639_040,
        makes="SegmentationClass",
        sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
        inside="VOCdevkit/VOC2012",
    ),
    # Hariharan et al., ICCV 2011, as masks; no checksum of it is published
    Archive("https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=1", 30_000_000, makes=MASKS_AUG),
)
DERIVED = ("class_names.txt", "labels_<split>.csv", "ImageSets/Segmentation/train_aug.txt")  # by data/prepare.py
_BELOW = ("", "VOC2012", "VOCdevkit/VOC2012")  # where the tar file of the devkit puts its tree


def find_root(root: Path) -> Path | None:
    """root, or the folder below it, that holds JPEGImages; None where none does."""
    return next((root / below for below in _BELOW if (root / below / IMAGES).is_dir()), None)


def read_objects(path: Path) -> frozenset[str]:
    """Names of all objects in an annotation file, difficult ones too; the parts of objects are none.

    Raises OSError for a file that is missing, is no such XML, or declares a document type: entities of its own can
    make a small file fill the memory, and VOC's files have none.
    """
    try:
        text = read_text(path)
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise OSError("declares a document type, which no annotation needs")
        return frozenset((tag.findtext("name") or "").strip() for tag in ElementTree.fromstring(text).iter("object"))
    except (ValueError, ElementTree.ParseError) as e:
        raise OSError(f"is no XML file in UTF-8 ({e})") from e


def list_of(root: Path, split: str) -> Path:
    return root / f"ImageSets/Segmentation/{split}.txt"


def read_split(root: Path, split: str, flag: str) -> list[str]:
    """Ids of ImageSets/Segmentation/<split>.txt. A train_aug that no file lists is derived, see train_aug."""
    path = list_of(root, split)
    if split == "train_aug" and not path.exists():
        return train_aug(root, flag)
    return read_names(path, flag)


def train_aug(root: Path, flag: str) -> list[str]:
    """Ids of the masks in SegmentationClassAug less those of the val list, sorted: 10,582 of the 12,031 (Hariharan et
    al., ICCV 2011). Raises InputError where either is missing."""
    val = set(read_split(root, "val", flag))
    return [stem for stem in find_images(root / MASKS_AUG, flag) if stem not in val]
