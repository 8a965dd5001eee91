"""Labels as other tools read them: COCO json, PASCAL VOC files, labelme json. A label map is (H,W) integers, 0 is the
background, `ignore` the void."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from misc.errors import InputError
from misc.files.labels import write_mask
from misc.files.rle import rle_encode
from misc.files.store import write_json, write_png, write_text
from misc.report.kinds import EXPORT_FORMATS
from misc.run.records import plain
from pgt import __version__

if TYPE_CHECKING:  # data stands on misc
    from data.datasets import DatasetSpec

Outline = list[list[float]]


@dataclass(frozen=True)
class Labelled:
    """One image: its file, its label map (H,W), and its path below the folder of images, without suffix (none: its
    stem)."""

    image: Path
    label: np.ndarray
    path: str = ""

    @property
    def name(self) -> str:
        return self.path or self.image.stem


def polygons(mask: np.ndarray) -> list[Outline]:
    """Outlines [x, y] of the parts of mask (H,W) bool, on the edges between pixels (pixel 0 covers 0..1) but for a
    quarter of a pixel, so that thin parts have an area. Holes are filled: COCO's polygons have none."""
    twice = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((outline[:, 0] + 0.5) / 2).tolist() for outline in outlines]


def painted_outlines(label: np.ndarray) -> list[tuple[int, Outline]]:
    """(label, outline of pixel centres), to be filled with their borders in this order: that gives the label map.

    Parts are joined through the 4 neighbours, so one that lies inside another is smaller than what the other's outline
    encloses, and comes after it. Background comes up where it fills holes.
    """
    found = []
    for value in np.unique(label):
        num, parts, stats, _ = cv2.connectedComponentsWithStats((label == value).astype(np.uint8), connectivity=4)
        for k in range(1, num):
            x, y, w, h = stats[k, :4].tolist()
            at_edge = x == 0 or y == 0 or x + w == label.shape[1] or y + h == label.shape[0]
            if value == 0 and at_edge:
                continue  # nothing encloses it
            part = (parts[y : y + h, x : x + w] == k).astype(np.uint8)
            outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            filled = cv2.drawContours(np.zeros_like(part), outlines, -1, 1, cv2.FILLED)
            found.append((-int(filled.sum()), int(value), (outlines[0][:, 0] + (x, y)).tolist()))
    return [(value, outline) for _, value, outline in sorted(found)]


def export_coco(labelled: Iterable[Labelled], spec: DatasetSpec, out_dir: Path, shapes: str = "rle") -> int:
    """Writes out_dir/instances.json: of every image and class one annotation, as rle or, with holes filled, polygons.
    Returns the number of images. Image numbers are the data set's own where all names hold them, and no two the same,
    else 1, 2, ..."""
    images, annotations, own = [], [], []
    for number, item in enumerate(labelled, 1):
        h, w = item.label.shape
        own.append(re.search(r"[0-9]{0,15}\Z", item.image.stem)[0] if spec.ids_in_names else "")
        images.append({"id": number, "file_name": item.name + item.image.suffix, "height": h, "width": w})
        for value in np.unique(item.label):
            if value not in (0, spec.ignore):
                facts = {"id": len(annotations) + 1, "image_id": number, "category_id": spec.category_id(int(value))}
                annotations.append({**facts, "iscrowd": 0, **_region(item.label == value, shapes)})
    if all(own) and len(set(map(int, own))) == len(own):
        for image in images:
            image["id"] = int(own[image["id"] - 1])
        for annotation in annotations:
            annotation["image_id"] = int(own[annotation["image_id"] - 1])
    categories = [{"id": spec.category_id(i), "name": name} for i, name in enumerate(spec.class_names, 1)]
    info = {"description": f"labels of {spec.name}, by generatePGT", "version": __version__}
    held = {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}
    write_json(out_dir / "instances.json", held)
    return len(images)


def _region(mask: np.ndarray, shapes: str) -> dict:
    y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = [int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)]
    rings = (np.ravel(outline).tolist() for outline in polygons(mask))
    segmentation = [*rings] if shapes == "polygons" else rle_encode(mask)
    return {"bbox": box, "area": int(mask.sum()), "segmentation": segmentation}


def export_voc(labelled: Iterable[Labelled], spec: DatasetSpec, out_dir: Path, split: str = "train") -> int:
    """Writes out_dir/SegmentationClass/<name>.png with VOC's palette, ImageSets/Segmentation/<split>.txt, and
    labelmap.txt, the names and colours of the labels, which CVAT reads."""
    if spec.ignore > 255:
        raise InputError(f"{spec.name} has labels above 255, which VOC's PNGs cannot hold; choose another format")
    names = []
    for item in labelled:
        names.append(item.name)
        write_mask(out_dir / "SegmentationClass" / f"{names[-1]}.png", item.label.astype(np.uint8))
    write_text(out_dir / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{name}\n" for name in names))
    colours = (",".join(map(str, spec.palette[label].tolist())) for label in range(spec.num_classes))
    lines = [f"{name}:{colour}::\n" for name, colour in zip(spec.names, colours, strict=True)]
    write_text(out_dir / "labelmap.txt", "".join(["# label:color_rgb:parts:actions\n", *lines]))
    return len(names)


def export_labelme(labelled: Iterable[Labelled], spec: DatasetSpec, out_dir: Path) -> int:
    """Writes out_dir/<name>.json. Shapes are polygons in painting order, which labelme's own converters keep; holes are
    shapes named _background_, void ones __ignore__, labelme's words for them."""
    names = {**dict(enumerate(spec.names)), 0: "_background_", spec.ignore: "__ignore__"}
    n = 0
    for n, item in enumerate(labelled, 1):  # noqa: B007
        h, w = item.label.shape
        outlines = [(value, (ring * 3)[: max(3, len(ring))]) for value, ring in painted_outlines(item.label)]
        shapes = [
            {"label": names[value], "points": ring, "group_id": None, "shape_type": "polygon", "flags": {}}
            for value, ring in outlines  # of three points at least, which labelme wants
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None}
        path = out_dir / f"{item.name}.json"
        content |= {"imagePath": plain(item.image, path.parent), "imageHeight": h, "imageWidth": w}
        write_text(path, json.dumps(content, ensure_ascii=False), "backslashreplace")
    return n


def export_masks(labelled: Iterable[Labelled], spec: DatasetSpec, out_dir: Path) -> int:
    """Writes out_dir/<name>.png, 255 where there is a class and 0 elsewhere."""
    n = 0
    for n, item in enumerate(labelled, 1):  # noqa: B007
        inside = (item.label > 0) & (item.label != spec.ignore)
        write_png(out_dir / f"{item.name}.png", inside * np.uint8(255))
    return n


# name -> function of labels, spec and folder (coco: also shapes; voc: also split) -> number of images written
FORMATS = dict(zip(EXPORT_FORMATS, (export_coco, export_voc, export_labelme, export_masks), strict=True))
