"""Class activation maps -> superpixel-wise pseudo labels.

Reads   the images of --img_root; --prob_root/<stem>.png
Writes  --output_root/<stem>.png, 8-bit gray at the image's own size, soft: the foreground probability
Paper   generatePGT's run_slic; Achanta et al., TPAMI 2012 (SLIC); Kraehenbuehl & Koltun, NIPS 2011 (dense CRF)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from misc.run.failures import Failures
from misc.run.flags import Args
from pgt.border import with_border_prior
from pgt.crf import dense_crf, unary_from_prob
from pgt.superpixel import slic, superpixel_mean, threshold_by_mean
from step.refine import Refiner, crf_on, refine_folder
from step.sets import open_images

if TYPE_CHECKING:
    import torch

    from run_slic import Slic


def run(args: Args, failures: Failures) -> None:
    images = open_images(args).images
    out_dir = args.cam_slic_out_dir or args.result_dir / "cam_slic"
    cam_dir = args.cam_out_dir or args.result_dir / "cam"
    settings = "make_slic", {**asdict(args.slic), "max_side": args.max_side}
    refine_folder("make_slic", "cam_slic", images, cam_dir, out_dir, refiner_of(args.slic), settings, args, failures)


def refiner_of(params: Slic) -> Refiner:
    one, prepare, finish = (partial(part, params=params) for part in (make_slic, superpixel_map, finish_on))
    return Refiner(one, prepare, finish if params.crf is not None else None)


def make_slic(image: np.ndarray, cam: np.ndarray, params: Slic) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> label (H,W) uint8: superpixel_map, dense CRF."""
    p = superpixel_map(image, cam, params)
    return to_label(p if params.crf is None else dense_crf(image, np.stack([1 - p, p]), params.crf)[1])


def superpixel_map(image: np.ndarray, cam: np.ndarray, params: Slic) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> (H,W) float32 in [0,1]: border prior, sure parts, means over
    superpixels."""
    cam = with_border_prior(image, cam, params.border)
    superpixel = slic(image, params.segments, params.compactness, params.lab, num_iter=params.num_iter)
    return superpixel_mean(threshold_by_mean(cam, params.high, params.low) / 255, superpixel).astype(np.float32)


def finish_on(
    images: Sequence[np.ndarray], maps: Sequence[np.ndarray], device: torch.device, params: Slic
) -> list[np.ndarray]:
    """What make_slic does after superpixel_map, for images of one size, on a device."""
    energies = [unary_from_prob(np.stack([1 - p, p])) for p in maps]
    return [to_label(p) for p in crf_on(device, images, energies, params.crf)[:, 1]]


def to_label(p: np.ndarray) -> np.ndarray:
    return (p * 255).astype(np.uint8)  # cut off, not rounded, as published
