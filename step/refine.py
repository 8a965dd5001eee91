"""What make_label and make_slic share: every image with its map -> a label, by several workers, resumable."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from misc.files.held import Held
from misc.files.images import at_most, read_gray, read_image
from misc.files.listing import list_pictures, matched
from misc.files.store import write_png
from misc.run.each import Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args

Refine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # image (H,W,3) uint8 RGB, map (H,W) uint8 -> label (H,W) uint8


def refine_folder(
    step: str,
    key: str,
    images: Mapping[str, Path],
    cam_dir: Path,
    out_dir: Path,
    refine: Refine,
    settings: Sequence[object],
    args: Args,
    failures: Failures,
) -> None:
    """Writes out_dir/<stem>.png for every image that has not failed before.

    key: the name of their record (misc/run/records.py). refine sees image and map at --max_side at most; the label is
    brought back to the image's own size. settings: parts of the fingerprint besides both files.
    """

    def make(item: Item, data: Sequence[Held]) -> list[Write]:
        image = read_image(data[0])
        try:
            cam = at_size(read_gray(data[1]), image.shape[:2])
        except OSError as e:
            raise OSError(f"its map {data[1].path} cannot be read: {e}") from e
        except ValueError as e:
            raise OSError(f"its map {data[1].path} {e}") from e
        label = refine(at_most(image, args.max_side), at_most(cam, args.max_side))
        return [partial(write_png, array=cv2.resize(label, cam.shape[::-1], interpolation=cv2.INTER_LINEAR))]

    maps = matched(images, list_pictures(cam_dir, "the maps").files if cam_dir.is_dir() else {})
    items = [
        Item(file, (out_dir / f"{stem}.png",), (file, maps.get(stem, cam_dir / f"{stem}.png")), "make_cam")
        for stem, file in images.items()
    ]
    parts = [tuple(settings)]
    each(step, items, lambda _: parts, make, args, failures, key=key)


def at_size(cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cam (h,w) uint8 at the size (H, W) of its image: smaller maps, as published code writes them, by bicubic.

    Raises ValueError where the two are of different shapes.
    """
    (h, w), (height, width) = cam.shape, size
    if abs(h - height * w / width) > 1 and abs(w - width * h / height) > 1:
        raise ValueError(f"is {w} x {h}, the image {width} x {height}: not of one shape (width x height)")
    if (h, w) == (height, width):
        return cam
    return np.asarray(Image.fromarray(cam).resize((width, height), Image.Resampling.BICUBIC))


def to_uint8(saliency: np.ndarray, binary: float | None = None) -> np.ndarray:
    """saliency (H,W) in [0,1] -> uint8, 0..255; 0 and 255 where binary, a threshold in [0,1], is given."""
    if binary is not None:
        saliency = saliency >= binary
    return (np.clip(saliency, 0, 1) * 255).round().astype(np.uint8)
