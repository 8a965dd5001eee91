"""Labels as other tools read them: COCO json, PASCAL VOC files, labelme json, masks, cut-outs, overlays. A label map is
(H,W) integers, 0 is the background, `ignore` the void."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from misc.errors import InputError, naming
from misc.files.images import read_image
from misc.files.labels import write_mask
from misc.files.rle import rle_encode
from misc.files.store import fingerprint, read_json, replacing, write_json, write_png, write_text
from misc.report.kinds import Simplify
from misc.report.outlines import outlines, polygons
from misc.report.overview import cutout, label_overlay
from misc.run.records import plain
from pgt import __version__

if TYPE_CHECKING:  # data stands on misc
    from data.datasets import DatasetSpec

_MADE = "made"  # the key of a labelme file under which it says which shapes it was written with
_QUALITY = 92  # of a JPEG


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

    def inside(self, spec: DatasetSpec) -> np.ndarray:
        """(H,W) bool, where there is a class."""
        return (self.label > 0) & (self.label != spec.ignore)

    def pixels(self) -> np.ndarray:
        """Its image (H,W,3) uint8. Raises OSError, which names the file."""
        with naming(self.image):
            return read_image(self.image)


def export_coco(
    labelled: Iterable[Labelled],
    spec: DatasetSpec,
    out_dir: Path,
    shapes: str = "rle",
    simplify: Simplify | None = None,
) -> int:
    """Writes out_dir/instances.json: of every image and class one annotation, as rle or, with holes filled, polygons;
    simplify: how those become fewer points, None: exact to the pixel. Returns the number of images. Image numbers are
    the data set's own where all names hold them, and no two the same, else 1, 2, ..."""
    images, annotations, own = [], [], []
    for number, item in enumerate(labelled, 1):
        h, w = item.label.shape
        own.append(re.search(r"[0-9]{0,15}\Z", item.image.stem)[0] if spec.ids_in_names else "")
        images.append({"id": number, "file_name": item.name + item.image.suffix, "height": h, "width": w})
        for value in np.unique(item.label):
            if value not in (0, spec.ignore):
                facts = {"id": len(annotations) + 1, "image_id": number, "category_id": spec.category_id(int(value))}
                annotations.append({**facts, "iscrowd": 0, **_region(item.label == value, shapes, simplify)})
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


def _region(mask: np.ndarray, shapes: str, simplify: Simplify | None) -> dict:
    y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = [int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)]
    if shapes == "polygons":
        segmentation = [np.ravel(outline).tolist() for outline in polygons(mask, simplify)]
    else:
        segmentation = rle_encode(mask)
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


def write_labelme(item: Labelled, spec: DatasetSpec, out_dir: Path, simplify: Simplify | None = None) -> bool:
    """Writes out_dir/<name>.json. Shapes are polygons in painting order, which labelme's own converters keep; holes are
    shapes named _background_, void ones __ignore__, labelme's words for them. simplify: how; None: exact to the pixel.

    Returns whether it was written: a file that says otherwise than what was written into it, as labelme saves it after
    a correction, stays.
    """
    path = out_dir / f"{item.name}.json"
    if (there := read_json(path)) and (not there.get(_MADE) or there[_MADE] != _digest(there)):
        return False
    names = {**dict(enumerate(spec.names)), 0: "_background_", spec.ignore: "__ignore__"}
    found = [(value, (ring.tolist() * 3)[: max(3, len(ring))]) for value, ring in outlines(item.label, simplify)]
    shapes = [
        {"label": names[value], "points": ring, "group_id": None, "shape_type": "polygon", "flags": {}}
        for value, ring in found  # of three points at least, which labelme wants
    ]
    content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imageData": None}
    h, w = item.label.shape
    content |= {"imagePath": plain(item.image, path.parent), "imageHeight": h, "imageWidth": w}
    content[_MADE] = _digest(content)
    write_text(path, json.dumps(content, ensure_ascii=False), "backslashreplace")
    return True


def _digest(content: Mapping) -> str | None:
    """Of the shapes of a labelme file, None where they cannot be read; whole numbers and others are alike."""
    try:
        shapes = [[one["label"], [[float(v) for v in point] for point in one["points"]]] for one in content["shapes"]]
    except (KeyError, TypeError, ValueError):
        return None
    return fingerprint({"shapes": shapes})


def write_binary(item: Labelled, spec: DatasetSpec, out_dir: Path) -> bool:
    """Writes out_dir/<name>.png, 255 where there is a class and 0 elsewhere."""
    write_png(out_dir / f"{item.name}.png", item.inside(spec) * np.uint8(255))
    return True


def write_cutout(item: Labelled, spec: DatasetSpec, out_dir: Path) -> bool:
    """Writes out_dir/<name>.png, the image with nothing around its objects. Raises OSError for an unusable image."""
    write_png(out_dir / f"{item.name}.png", cutout(item.pixels(), item.inside(spec)))
    return True


def write_overlay(item: Labelled, spec: DatasetSpec, out_dir: Path) -> bool:
    """Writes out_dir/<name>.jpg, the label over the image. Raises OSError for an unusable image."""
    label = np.where(item.label == spec.ignore, 0, item.label)
    with replacing(out_dir / f"{item.name}.jpg") as part:
        picture = Image.fromarray(label_overlay(item.pixels(), label, spec.palette))
        picture.save(part, format="JPEG", quality=_QUALITY)
    return True


# formats of a file for all images: a function of labels, spec, folder and its options -> the number of images
OF_ALL: dict[str, Callable[..., int]] = {"coco": export_coco, "voc": export_voc}
# of a file per image: a function of one label, spec, folder and its options -> whether it was written
OF_ONE: dict[str, Callable[..., bool]] = {
    "labelme": write_labelme,
    "masks": write_binary,
    "cutout": write_cutout,
    "overlay": write_overlay,
}
