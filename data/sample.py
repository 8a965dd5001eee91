"""Eight photographs to try the program on, with no download, and masks of what stands out in them.

The photographs are among those that scikit-image installs with itself; data/sample/masks.json holds the
outlines, drawn by hand, in (x, y) pixels of the picture as written, the object's outermost pixels included.
"""

import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from misc.errors import InputError
from misc.files.store import remove_parts, replacing, write_png

_OUTLINES = Path(__file__).with_suffix("") / "masks.json"
Polygon = list[list[int]]


@dataclass(frozen=True)
class Picture:
    """One entry of masks.json. box (x0, y0, x1, y1; ends excluded) cuts the file; None: all of it."""

    file: str  # its name in scikit-image
    object: str  # what is outlined, in words
    polygons: list[Polygon]
    holes: list[Polygon] = field(default_factory=list)
    box: list[int] | None = None


def pictures() -> dict[str, Picture]:
    """name -> Picture, sorted by name."""
    entries = json.loads(_OUTLINES.read_text(encoding="utf-8"))
    return {name: Picture(**entry) for name, entry in sorted(entries.items())}


def write_sample(root: Path) -> tuple[Path, Path]:
    """Writes root/images/<name>.png|jpg and root/masks/<name>.png, and returns the two folders.

    Images are scikit-image's own files (8-bit RGB or gray), byte for byte unless cut to a box; masks are
    (H,W) uint8, 0 or 255. A file already there is left as it is; any other appears whole or not at all.
    Raises InputError where a folder cannot be made, or scikit-image or one of its photographs is missing.
    """
    image_dir, mask_dir = Path(root) / "images", Path(root) / "masks"
    remove_parts(Path(root))
    for name, picture in pictures().items():
        image = image_dir / f"{name}{Path(picture.file).suffix if picture.box is None else '.png'}"
        mask = mask_dir / f"{name}.png"
        if not image.exists():
            _write_image(image, picture)
        if not mask.exists():
            with Image.open(image) as opened:
                write_png(mask, draw_mask(picture, opened.size))
    return image_dir, mask_dir


def draw_mask(picture: Picture, size: tuple[int, int]) -> np.ndarray:
    """size (width, height) -> (H,W) uint8: 255 in any of the polygons and in none of the holes, else 0."""
    mask = np.zeros(size[::-1], np.uint8)
    for polygons, value in ((picture.polygons, 255), (picture.holes, 0)):
        for polygon in polygons:  # one by one: filled together, overlaps would cancel out
            cv2.fillPoly(mask, [np.array(polygon, np.int32)], value)
    return mask


def _source(file: str) -> Path:
    """The file inside the installed scikit-image, which need not be imported for it."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise InputError("the sample pictures are scikit-image's, which is not there; pip install scikit-image")
    path = Path(package.origin).parent / "data" / file
    if not path.is_file():
        raise InputError(f"sample pictures: no {path}; pip install --force-reinstall scikit-image")
    return path


def _write_image(path: Path, picture: Picture) -> None:
    source = _source(picture.file)
    if picture.box is None:
        with replacing(path) as part:
            part.write_bytes(source.read_bytes())
    else:
        with Image.open(source) as image:
            write_png(path, np.asarray(image.crop(picture.box)))
