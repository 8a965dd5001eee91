"""Class activation maps -> superpixel-wise pseudo labels.

Reads   the images of --img_root; --prob_root/<stem>.png
Writes  --output_root/<stem>.png, 8-bit gray at the image's own size, soft: the foreground probability
Paper   generatePGT's run_slic; Achanta et al., TPAMI 2012 (SLIC); Kraehenbuehl & Koltun, NIPS 2011 (dense CRF)
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from misc.run.failures import Failures
from misc.run.flags import Args
from pgt.crf import dense_crf
from pgt.superpixel import slic, superpixel_mean, threshold_by_mean
from step.refine import refine_folder
from step.sets import open_images

if TYPE_CHECKING:
    from run_slic import Slic


def run(args: Args, failures: Failures) -> None:
    images = open_images(args).images
    out_dir = args.cam_slic_out_dir or args.result_dir / "cam_slic"
    settings = "make_slic", {**asdict(args.slic), "max_side": args.max_side}
    refine = partial(make_slic, params=args.slic)
    refine_folder("make_slic", "cam_slic", images, args.cam_out_dir, out_dir, refine, settings, args, failures)


def make_slic(image: np.ndarray, cam: np.ndarray, params: Slic) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> label (H,W) uint8: sure parts, means over superpixels, dense CRF."""
    superpixel = slic(image, params.segments, params.compactness, params.lab, num_iter=params.num_iter)
    p = superpixel_mean(threshold_by_mean(cam, params.high, params.low) / 255, superpixel).astype(np.float32)
    if params.crf is not None:
        p = dense_crf(image, np.stack([1 - p, p]), params.crf)[1]
    return (p * 255).astype(np.uint8)  # cut off, not rounded, as published
