"""What make_label and make_slic share: every image with its map -> a label, by several workers, resumable."""

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from misc.files.images import limit_side, read_gray, read_image
from misc.files.store import fingerprint, is_current, require_writable, write_png
from misc.run.flags import from_flags
from misc.run.parallel import num_workers_for, parallel_map, progress


@dataclass(frozen=True)
class Pair:
    image: Path
    cam: Path
    out: Path


def with_crf_flags(recipe, args, prefix: str):
    """As from_flags, of a recipe with a CRF: the CRF's fields are flags named prefix + "crf_" + field, and
    prefix + "crf" False leaves it out."""
    crf = from_flags(recipe.crf, args, f"{prefix}crf_") if getattr(args, prefix + "crf") else None
    return replace(from_flags(recipe, args, prefix), crf=crf)


def refine_folder(
    name: str, images: Mapping[str, Path], cam_dir: Path, out_dir: Path, refine: Callable, params, args, failures
) -> None:
    """Writes out_dir/<stem>.png for every image that has not failed before.

    refine: a module's function of image (H,W,3) uint8 RGB, map (H,W) uint8 and params (a data class) -> label (H,W)
    uint8. It sees both at --max_side at most; the label is brought back to the image's own size.
    """
    require_writable(out_dir)
    cv2.setNumThreads(1)  # the workers are the parallelism
    pairs = [
        Pair(path, cam_dir / f"{stem}.png", out_dir / f"{stem}.png")
        for stem, path in images.items()
        if path not in failures
    ]
    one = partial(refine_one, refine=refine, params=params, max_side=args.max_side, overwrite=args.overwrite)
    done = parallel_map(one, pairs, num_workers_for(args.num_workers, len(pairs)))
    made = 0
    for pair, result in progress(done, len(pairs), name, args.quiet):
        if isinstance(result, OSError):
            failures.add(name, pair.image, result)
        else:
            made += result
    print(f"{name}: {made} labels made, {len(images) - made} kept or failed, in {out_dir}")


def refine_one(pair: Pair, refine: Callable, params, max_side: int, overwrite: bool) -> bool:
    """Makes one label; whether there was anything to do. Raises OSError where the image or its map is not usable."""
    if not pair.cam.is_file():
        raise FileNotFoundError(f"its map {pair.cam} is missing: run make_cam")
    data, cam_data = pair.image.read_bytes(), pair.cam.read_bytes()
    made_from = fingerprint(data, cam_data, refine.__name__, {**asdict(params), "max_side": max_side})
    if not overwrite and is_current(pair.out, made_from):
        return False
    image = read_image(io.BytesIO(data))
    try:
        cam = read_gray(io.BytesIO(cam_data))
    except OSError as e:
        raise OSError(f"its map {pair.cam} cannot be read: {e}") from e
    try:
        cam = at_size(cam, image.shape[:2])
    except ValueError as e:
        raise OSError(f"its map {pair.cam} {e}") from e
    size = limit_side(cam.shape, max_side)[::-1]
    label = refine(*(cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (image, cam)), params)
    write_png(pair.out, cv2.resize(label, cam.shape[::-1], interpolation=cv2.INTER_LINEAR), made_from)
    return True


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
