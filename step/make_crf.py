"""Class activation maps -> CRF maps with much and with little background, for the labels of AffinityNet.

Reads   the images of the set (step/sets.py); RESULT_DIR/cam/<name>.npz
Writes  RESULT_DIR/crf_la/<name>.npz and crf_ha: keys (P+1,), labels, background 0 first; cam (P+1,H,W) uint8,
        marginals; scale: cam * scale is in [0,1]
Paper   Ahn & Kwak, CVPR 2018 (section 3.2); SEAM and HFPL for the parameters
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import cv2
import numpy as np

from misc.files.held import Held
from misc.files.images import at_most, read_image
from misc.files.predictions import read_cams
from misc.files.store import write_cams
from misc.run.each import Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from pgt.crf import CRFParams, mean_field, unary_from_cam
from step.sets import open_train

FOLDERS = ("crf_la", "crf_ha")


def run(args: Args, failures: Failures) -> None:
    images, params = open_train(args).images, args.crf.at_scale(args.crf_scale)
    settings = {**asdict(params), "max_side": args.max_side}

    def make(item: Item, data: Sequence[Held]) -> list[Write]:
        image = read_image(data[0])
        cams = read_cams(data[1], image.shape[:2])
        keys = np.append(0, cams.labels)
        probs = (crf_map(image, cams.scores, alpha, params, args.max_side) for alpha in args.crf_alphas)
        return [partial(write_cams, keys=keys, cam=prob) for prob in probs]

    items = [
        Item(file, tuple(args.result_dir / f / f"{name}.npz" for f in FOLDERS),
             (file, args.result_dir / "cam" / f"{name}.npz"), "make_cam")
        for name, file in zip(images.names, images.files, strict=True)
    ]  # fmt: skip
    parts = [{**settings, "alpha": alpha} for alpha in args.crf_alphas]
    each("make_crf", items, lambda _: parts, make, args, failures, what="pairs of maps", key="crf")


def crf_map(image: np.ndarray, cam: np.ndarray, alpha: float, params: CRFParams, max_side: int = 1 << 30) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (P,H,W) in [0,1] of its classes -> marginals (P+1,H,W), background first.

    Background scores (1 - max cam)^alpha. Of a longer side than max_side the CRF sees a smaller copy. P = 0: all
    background.
    """
    if not len(cam):
        return np.ones((1, *image.shape[:2]), np.float32)
    small = at_most(image, max_side)
    prob = mean_field(small, unary_from_cam(np.stack([at_most(c, max_side) for c in cam]), alpha), params)
    if small is image:
        return prob
    return np.stack([cv2.resize(p, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for p in prob])
