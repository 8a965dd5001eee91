"""Class activation maps -> CRF maps with much and with little background, for the labels of AffinityNet.

Reads   the images of the set (step/sets.py); RESULT_DIR/cam/<name>.npz; for --bg_cue RESULT_DIR/sal/<name>.png
Writes  RESULT_DIR/crf_la/<name>.npz and crf_ha: keys (P+1,), labels, background 0 first; cam (P+1,H,W) uint8,
        marginals; scale: cam * scale is in [0,1]
Paper   Ahn & Kwak, CVPR 2018 (section 3.2); SEAM and HFPL for the parameters
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from misc.files.held import Held
from misc.files.images import at_most, read_image
from misc.files.store import write_cams
from misc.run.each import Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import resize_maps
from pgt.crf import CRFParams, mean_field, unary_from_cam
from step.cue import files_of, made_by, read_cued, settings_of, share_of
from step.refine import batches_on, crf_on, refining_device
from step.sets import open_train, shard_of

if TYPE_CHECKING:
    import torch

FOLDERS = ("crf_la", "crf_ha")


def run(args: Args, failures: Failures) -> None:
    images, params = open_train(args).images, args.crf.at_scale(args.crf_scale)
    images = images.take(shard_of(args, len(images)))
    settings = {**asdict(params), "max_side": args.max_side, **settings_of(args)}
    device, share = refining_device(args), share_of(args)

    def make(item: Item, data: Sequence[Held]) -> Work | list[Write]:
        image = read_image(data[0])
        cams = read_cued(data[1:], image.shape[:2], share)
        work = Work(image, at_most(image, args.max_side), np.append(0, cams.labels), cams.scores)
        if device:
            return work
        return work.writes([crf_map(image, work.cam, alpha, params, args.max_side) for alpha in args.crf_alphas])

    def compute(works: Sequence[Work]) -> list[list[Write]]:
        maps = zip(*(crf_maps(works, alpha, params, device) for alpha in args.crf_alphas), strict=True)
        return [work.writes(pair) for work, pair in zip(works, maps, strict=True)]

    items = [
        Item(file, tuple(args.result_dir / f / f"{name}.npz" for f in FOLDERS),
             (file, *files_of(name, args)), made_by(args))
        for name, file in zip(images.names, images.files, strict=True)
    ]  # fmt: skip
    parts = [{**settings, "alpha": alpha} for alpha in args.crf_alphas]
    batches = batches_on(device, compute, lambda work: (work.small.shape, len(work.cam)), args.max_side)
    each("make_crf", items, lambda _: parts, make, args, failures, what="pairs of maps", key="crf", batches=batches)


@dataclass(frozen=True)
class Work:
    """An image (H,W,3), itself at --max_side, its labels (P+1,), background 0 first, and its CAMs (P,H,W) in [0,1]."""

    image: np.ndarray
    small: np.ndarray
    keys: np.ndarray
    cam: np.ndarray

    def writes(self, probs: Sequence[np.ndarray]) -> list[Write]:
        return [partial(write_cams, keys=self.keys, cam=prob) for prob in probs]


def crf_maps(works: Sequence[Work], alpha: float, params: CRFParams, device: torch.device) -> list[np.ndarray]:
    """crf_map of images that have one size at --max_side and as many classes, on a device."""
    if not len(works[0].cam):
        return [all_background(work.image) for work in works]
    max_side = max(works[0].small.shape[:2])
    energies = [unary_from_cam(np.stack([at_most(c, max_side) for c in work.cam]), alpha) for work in works]
    probs = crf_on(device, [work.small for work in works], energies, params)
    return [resize_maps(prob, work.image.shape[:2]) for prob, work in zip(probs, works, strict=True)]


def crf_map(image: np.ndarray, cam: np.ndarray, alpha: float, params: CRFParams, max_side: int = 1 << 30) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (P,H,W) in [0,1] of its classes -> marginals (P+1,H,W), background first.

    Background scores (1 - max cam)^alpha. Of a longer side than max_side the CRF sees a smaller copy. P = 0: all
    background.
    """
    if not len(cam):
        return all_background(image)
    small = at_most(image, max_side)
    prob = mean_field(small, unary_from_cam(np.stack([at_most(c, max_side) for c in cam]), alpha), params)
    return resize_maps(prob, image.shape[:2])


def all_background(image: np.ndarray) -> np.ndarray:
    return np.ones((1, *image.shape[:2]), np.float32)
