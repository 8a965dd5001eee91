"""Class activation maps -> pixel-wise pseudo labels that follow the edges of the image.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam/<stem>.png
Writes  RESULT_DIR/cam_pamr/<stem>.png, 8-bit gray at the image's own size, soft; 0 and 255 with --label_binary
Paper   Araslanov & Roth, CVPR 2020 (PAMR); Kraehenbuehl & Koltun, NIPS 2011 (dense CRF); generatePGT's use of both
"""

from dataclasses import dataclass

import numpy as np

from data.saliency import open_folder
from pgt.crf import CRF_RECIPES, CRFParams, mean_field, unary_from_prob, unary_from_saliency
from pgt.pamr import DILATIONS, refine_saliency
from pgt.superpixel import threshold_by_mean
from step.refine import refine_folder, to_uint8, with_crf_flags


@dataclass(frozen=True)
class LabelParams:
    """How a map becomes a pixel-wise label: PAMR, sure parts, dense CRF.

    pamr_num_iter 0 leaves PAMR out, crf None the CRF. high, low: what is above high times the mean of the refined map
    is surely object, what is below low times its mean surely background; None: no such parts, and the published unary.
    crf_binary: binarise the map before the CRF, as published, which then changes nothing. binary: threshold of the
    label, None for a soft one.
    """

    pamr_dilations: tuple[int, ...] = (1, 2, 4, 8)
    pamr_num_iter: int = 10
    high: float | None = 1.7
    low: float = 1.0
    crf: CRFParams | None = CRF_RECIPES["wsod_superpixel"]
    crf_binary: float | None = None
    binary: float | None = None


# On the 250 ECSSD images: see the README's table
LABEL_RECIPES = {
    "default": LabelParams(),
    "published": LabelParams(DILATIONS, high=None, crf=CRF_RECIPES["wsod_pixel"]),
}


def run(args, failures) -> None:
    params = with_crf_flags(LABEL_RECIPES[args.label_recipe], args, "label_")
    images = open_folder(args.sal_dataset_dir, args.limit).images
    cam_dir = args.cam_out_dir or args.result_dir / "cam"
    out_dir = args.cam_pamr_out_dir or args.result_dir / "cam_pamr"
    refine_folder("make_label", images, cam_dir, out_dir, make_label, params, args, failures)


def make_label(image: np.ndarray, cam: np.ndarray, params: LabelParams) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> label (H,W) uint8."""
    saliency = cam.astype(np.float32) / 255
    if params.pamr_num_iter:
        saliency = refine_saliency(image, saliency, params.pamr_dilations, params.pamr_num_iter)
    if params.crf is not None:
        saliency = mean_field(image, unary(saliency, params), params.crf)[1]
    return to_uint8(saliency, params.binary)


def unary(saliency: np.ndarray, params: LabelParams) -> np.ndarray:
    """saliency (H,W) in [0,1] -> energies (2,H,W) of background and object."""
    if params.crf_binary is not None:
        saliency = (saliency >= params.crf_binary).astype(np.float32)
    if params.high is None:
        return unary_from_saliency(saliency.clip(0, 1))
    p = threshold_by_mean(to_uint8(saliency), params.high, params.low) / np.float32(255)
    return unary_from_prob(np.stack([1 - p, p]))
