"""COCO 2014, and any set with an instances json: images, categories and annotations, and label maps of these."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco

from data.archives import Archive
from data.datasets import DATASETS
from misc.errors import InputError
from misc.files.rle import rle_decode

SPEC = DATASETS["coco14"]
SIZES = {"train": 82783, "val": 40504}
# the bucket behind images.cocodataset.org, whose own name has no certificate
_BUCKET = "https://s3.amazonaws.com/images.cocodataset.org"
ARCHIVES = (
    Archive(
        f"{_BUCKET}/annotations/annotations_trainval2014.zip",
        252_872_794,
        makes="annotations/instances_val2014.json",
        sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        only="annotations/instances_",
    ),
    Archive(
        f"{_BUCKET}/zips/train2014.zip",
        13_510_573_713,
        makes="train2014",
        sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
    ),
    Archive(
        f"{_BUCKET}/zips/val2014.zip",
        6_645_013_297,
        makes="val2014",
        sha256="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
    ),
)
# by data/prepare.py
DERIVED = (
    "class_names.txt",
    "labels_<split>.csv",
    "ImageSets/Segmentation/<split>.txt",
    "SegmentationClass/<name>.png, masks drawn from the annotations",
)
# what COCO and VOC call the same thing by two names
VOC_NAMES = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "dining table": "diningtable",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}
CATEGORIES = dict(zip(SPEC.category_ids, SPEC.class_names, strict=True))
_IMAGE_KEYS = ("file_name", "height", "width")
_FARTHEST = 1e5  # pixels from the origin: what lies beyond is no coordinate of a polygon


@dataclass(frozen=True)
class Instances:
    """images: number -> its record (file_name, height, width); annotations: number of the image -> its annotations, in
    the order of the file; categories: number -> name, ascending."""

    path: Path
    images: dict[int, dict]
    annotations: dict[int, list[dict]]
    categories: dict[int, str]


def find_instances(root: Path, split: str | None = None) -> list[Path]:
    """Files instances_<split>[year].json in root or root/annotations, or all of them; root may be such a file."""
    if root.is_file():
        return [root] if root.suffix == ".json" else []
    wanted = re.compile(rf"instances_{re.escape(split)}\d*" if split else "instances_.*")
    found = [*root.glob("annotations/instances_*.json"), *root.glob("instances_*.json")]
    return sorted(path for path in found if wanted.fullmatch(path.stem))


def read_instances(path: Path, flag: str) -> Instances:
    """Raises InputError for a file that is no instances json, or whose parts do not belong together."""
    try:
        held = json.loads(path.read_bytes())
        images = {image["id"]: {key: image[key] for key in _IMAGE_KEYS} for image in held["images"]}
        categories = {c["id"]: c["name"] for c in sorted(held["categories"], key=lambda c: c["id"])}
        annotations: dict[int, list[dict]] = {number: [] for number in images}
        for annotation in held["annotations"]:
            annotations[annotation["image_id"]].append(annotation)
            if annotation["category_id"] not in categories:
                raise ValueError(f"annotation {annotation.get('id')} is of no category")
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"{flag} {path}: cannot be read as an instances json ({e})") from e
    except (KeyError, TypeError) as e:
        raise InputError(f"{flag} {path}: no instances json of COCO ({type(e).__name__}: {e})") from e
    return Instances(path, images, annotations, categories)


def image_dir(instances: Instances) -> Path:
    """The folder beside the json, or beside its folder `annotations`, that holds the first image: images, train2014,
    images/train2014, JPEGImages or none; the first of them where no folder does."""
    path = instances.path
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    part = path.stem.removeprefix("instances_")
    folders = [root / below for below in ("images", part, f"images/{part}", "JPEGImages", "")]
    first = next(iter(instances.images.values()), {"file_name": "none"})["file_name"]
    return next((folder for folder in folders if (folder / first).is_file()), folders[0])


def label_of_category(instances: Instances) -> dict[int, int]:
    """Category number -> label: their place in categories_of. Raises InputError for more of them than a mask can tell
    apart."""
    numbers = categories_of(instances)
    if len(numbers) >= SPEC.ignore:
        raise InputError(f"{instances.path}: {len(numbers)} categories are more than a mask of 8 bits can hold")
    return {number: label for label, number in enumerate(numbers, 1)}


def categories_of(instances: Instances) -> dict[int, str]:
    """Number -> name in the order of the labels: COCO's own, also where a file has some of its categories alone; those
    of other sets by ascending number."""
    return CATEGORIES if instances.categories.items() <= CATEGORIES.items() else instances.categories


def draw_label(
    annotations: Sequence[Mapping], shape: tuple[int, int], labels: Mapping[int, int], ignore: int = 255
) -> np.ndarray:
    """-> (H,W) uint8: 0, and each annotation's labels[category_id], or ignore where it is a crowd, in their order: what
    comes later covers what was there. Raises OSError, with the reason, for an annotation that is damaged.
    """
    label = np.zeros(shape, np.uint8, order="F")  # as COCO counts pixels
    for annotation in annotations:
        value = ignore if annotation.get("iscrowd") else labels[annotation["category_id"]]
        try:
            np.copyto(label, value, where=_mask(annotation["segmentation"], shape))
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as e:
            reason = f"{type(e).__name__}: {e}"
            raise OSError(f"annotation {annotation.get('id')} has no usable segmentation ({reason})") from e
    return np.ascontiguousarray(label)


def _mask(segmentation: list | Mapping, shape: tuple[int, int]) -> np.ndarray:
    """-> (H,W) bool of the polygons [x, y, x, y, ...] together, or of a run-length code."""
    if not isinstance(segmentation, list):
        return rle_decode(segmentation, shape)
    outlines = [np.asarray(points, np.float64) for points in segmentation]
    if any(points.ndim != 1 or points.size % 2 or not (np.abs(points) < _FARTHEST).all() for points in outlines):
        raise ValueError("a polygon is no row of x, y in pixels")
    outlines = [points for points in outlines if points.size >= 6]  # fewer enclose nothing, four would be a box
    if not outlines:
        raise ValueError("it has no polygon of three points or more")
    return rle_decode(coco.merge(coco.frPyObjects(outlines, *shape)), shape)
