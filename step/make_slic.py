"""Class activation maps -> superpixel-wise pseudo labels.

Reads   the images of --img_root; --prob_root/<stem>.png
Writes  --output_root/<stem>.png, 8-bit gray at the image's own size, soft: the foreground probability
Paper   generatePGT's run_slic; Achanta et al., TPAMI 2012 (SLIC); Kraehenbuehl & Koltun, NIPS 2011 (dense CRF)
"""

from dataclasses import dataclass

import numpy as np

from data.saliency import open_folder
from pgt.crf import CRF_RECIPES, CRFParams, dense_crf
from pgt.superpixel import slic, superpixel_mean, threshold_by_mean
from step.refine import refine_folder, with_crf_flags


@dataclass(frozen=True)
class SlicParams:
    """How a map becomes a superpixel-wise label: sure parts, means over superpixels, dense CRF.

    high, low: grey levels above high times the map's mean become 255, those below low times its mean 0.
    lab: the colour space of SLIC (pgt.superpixel.LAB_MODES); num_iter: its rounds. crf None leaves the CRF out.
    """

    segments: int = 200
    compactness: float = 20
    lab: str = "rgb"
    num_iter: int = 5
    high: float = 1.7
    low: float = 1.0
    crf: CRFParams | None = CRF_RECIPES["wsod_superpixel"]


# On the 250 ECSSD images: see the README's table
SLIC_RECIPES = {
    "default": SlicParams(),
    "published": SlicParams(lab="published", num_iter=10, high=1.2, low=0.7),
    "mfnet_stage2": SlicParams(lab="published", num_iter=10, high=1.5, low=0.8),
}


def run(args, failures) -> None:
    params = with_crf_flags(SLIC_RECIPES[args.slic_recipe], args, "slic_")
    images = open_folder(args.sal_dataset_dir, args.limit, "--img_root").images
    refine_folder("make_slic", images, args.cam_out_dir, args.cam_slic_out_dir, make_slic, params, args, failures)


def make_slic(image: np.ndarray, cam: np.ndarray, params: SlicParams) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> label (H,W) uint8."""
    superpixel = slic(image, params.segments, params.compactness, params.lab, num_iter=params.num_iter)
    p = superpixel_mean(threshold_by_mean(cam, params.high, params.low) / 255, superpixel).astype(np.float32)
    if params.crf is not None:
        p = dense_crf(image, np.stack([1 - p, p]), params.crf)[1]
    return (p * 255).astype(np.uint8)  # cut off, not rounded, as published
