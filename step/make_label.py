"""Class activation maps -> pixel-wise pseudo labels that follow the edges of the image.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam/<stem>.png
Writes  RESULT_DIR/cam_pamr/<stem>.png, 8-bit gray at the image's own size, soft; 0 and 255 with --label_binary
Paper   Araslanov & Roth, CVPR 2020 (PAMR); Kraehenbuehl & Koltun, NIPS 2011 (dense CRF); generatePGT's use of both
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
from pgt.crf import mean_field, unary_from_prob, unary_from_saliency
from pgt.pamr import refine_saliency, refine_saliency_torch
from pgt.superpixel import threshold_by_mean
from step.refine import Refiner, crf_on, on, planes_on, refine_folder, to_uint8
from step.sets import open_images

if TYPE_CHECKING:
    import torch

    from run_sample import Label


def run(args: Args, failures: Failures) -> None:
    images = open_images(args).images
    cam_dir = args.cam_out_dir or args.result_dir / "cam"
    out_dir = args.cam_pamr_out_dir or args.result_dir / "cam_pamr"
    settings = "make_label", {**asdict(args.label), "max_side": args.max_side}
    refine_folder("make_label", "cam_pamr", images, cam_dir, out_dir, refiner_of(args.label), settings, args, failures)


def refiner_of(params: Label) -> Refiner:
    runs = params.pamr_num_iter or params.crf is not None
    finish = partial(make_labels, params=params) if runs else None
    any_size = bool(params.pamr_num_iter) and not params.border
    one, prepare = partial(make_label, params=params), partial(with_border_prior, share=params.border)
    return Refiner(one, prepare, finish, any_size)


def make_label(image: np.ndarray, cam: np.ndarray, params: Label) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam uint8 or uint16, (H,W) or for PAMR of any size -> label (H,W) uint8: border
    prior, PAMR, sure parts, dense CRF."""
    saliency = shares(with_border_prior(image, cam, params.border))
    if params.pamr_num_iter:
        saliency = refine_saliency(image, saliency, params.pamr_dilations, params.pamr_num_iter)
    if params.crf is not None:
        saliency = mean_field(image, unary(saliency, params), params.crf)[1]
    return to_uint8(saliency, params.binary)


def make_labels(
    images: Sequence[np.ndarray], cams: Sequence[np.ndarray], device: torch.device, params: Label
) -> list[np.ndarray]:
    """make_label of images of one size and their maps, with the border prior in them, PAMR and CRF on a device."""
    saliency = on(device, [shares(cam) for cam in cams])
    if params.pamr_num_iter:
        saliency = refine_saliency_torch(
            planes_on(device, images), saliency, params.pamr_dilations, params.pamr_num_iter
        )
    maps = saliency.cpu().numpy()
    if params.crf is not None:
        maps = crf_on(device, images, [unary(one, params) for one in maps], params.crf)[:, 1]
    return [to_uint8(one, params.binary) for one in maps]


def shares(cam: np.ndarray) -> np.ndarray:
    """Levels of 8 or 16 bits -> float32 in [0,1]."""
    return cam.astype(np.float32) / np.iinfo(cam.dtype).max


def unary(saliency: np.ndarray, params: Label) -> np.ndarray:
    """saliency (H,W) in [0,1] -> energies (2,H,W) of background and object, of its 8-bit levels, as the published code
    has a PNG between PAMR and CRF; the published energies without sure parts."""
    levels = to_uint8(saliency)
    if params.crf_binary is not None:
        levels = (levels >= 255 * params.crf_binary) * np.uint8(255)
    if params.high is None:
        return unary_from_saliency(levels / 255)
    p = threshold_by_mean(levels, params.high, params.low) / np.float32(255)
    return unary_from_prob(np.stack([1 - p, p]))
