"""Class activation maps -> pixel-wise pseudo labels that follow the edges of the image.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam/<stem>.png
Writes  RESULT_DIR/cam_pamr/<stem>.png, 8-bit gray at the image's own size, soft; 0 and 255 with --label_binary
Paper   Araslanov & Roth, CVPR 2020 (PAMR); generatePGT's use of it
"""

import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from data.saliency import open_folder
from misc.images import limit_side, read_gray, read_image
from misc.pamr import refine_saliency
from misc.parallel import num_workers_for, parallel_map, progress
from misc.store import fingerprint, is_current, require_writable, write_png


@dataclass(frozen=True)
class LabelParams:
    """How a map becomes a label. binary: threshold in [0,1], None for a soft label."""

    dilations: tuple[int, ...]
    num_iter: int
    max_side: int
    binary: float | None = None


@dataclass(frozen=True)
class Pair:
    image: Path
    cam: Path
    out: Path


def run(args, failures) -> None:
    images = open_folder(args.sal_dataset_dir, args.limit).images
    cam_dir = args.cam_out_dir or args.result_dir / "cam"
    out_dir = args.cam_pamr_out_dir or args.result_dir / "cam_pamr"
    require_writable(out_dir)
    params = LabelParams(tuple(args.pamr_dilations), args.pamr_num_iter, args.max_side, args.label_binary)
    pairs = [
        Pair(path, cam_dir / f"{stem}.png", out_dir / f"{stem}.png")
        for stem, path in images.items()
        if path not in failures
    ]
    done = parallel_map(
        partial(make_one, params=params, overwrite=args.overwrite), pairs, num_workers_for(args.num_workers, len(pairs))
    )
    made = 0
    for pair, result in progress(done, len(pairs), "make_label", args.quiet):
        if isinstance(result, OSError):
            failures.add("make_label", pair.image, result)
        else:
            made += result
    print(f"make_label: {made} labels made, {len(images) - made} kept or failed, in {out_dir}")


def make_one(pair: Pair, params: LabelParams, overwrite: bool = False) -> bool:
    """Makes one label; whether there was anything to do. Raises OSError where the image or its map is not usable."""
    if not pair.cam.is_file():
        raise FileNotFoundError(f"its map {pair.cam} is missing: run make_cam")
    data, cam_data = pair.image.read_bytes(), pair.cam.read_bytes()
    made_from = fingerprint(data, cam_data, vars(params))
    if not overwrite and is_current(pair.out, made_from):
        return False
    image, cam = read_image(io.BytesIO(data)), read_gray(io.BytesIO(cam_data))
    if cam.shape != image.shape[:2]:
        raise OSError(f"its map {pair.cam} is {cam.shape[::-1]}, the image {image.shape[1::-1]} (width, height)")
    write_png(pair.out, make_label(image, cam, params), made_from)
    return True


def make_label(image: np.ndarray, cam: np.ndarray, params: LabelParams) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> label (H,W) uint8."""
    height, width = limit_side(cam.shape, params.max_side)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    saliency = cv2.resize(cam, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    saliency = refine_saliency(small, saliency, params.dilations, params.num_iter)
    saliency = cv2.resize(saliency, cam.shape[::-1], interpolation=cv2.INTER_LINEAR)
    if params.binary is not None:
        return np.where(saliency >= params.binary, 255, 0).astype(np.uint8)
    return (saliency * 255).round().astype(np.uint8)
