"""Confident parts of two CRF maps -> AffinityNet, which tells whether neighbouring pixels are of one class.

    python run_voc.py ... --train_seam_pass False --make_cam_pass False --make_crf_pass False     what follows them
    torchrun --nproc-per-node 4 run_voc.py ...                                                    on four devices

Reads   the training images; RESULT_DIR/crf_la/<name>.npz and crf_ha/<name>.npz (step/make_crf.py); start weights
Writes  RESULT_DIR/ckpt/aff.pth, weights and facts alone; train_aff.csv; states to go on from
Paper   Ahn & Kwak, Learning pixel-level semantic affinity, CVPR 2018; HFPL, WACV 2024
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import net
from data.labelled import LabelledImages, digest
from misc.errors import naming
from misc.files.images import read_named
from misc.files.predictions import Cams, read_prediction
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import color_jitter, random_crop, random_flip, random_resize_long, resize_maps
from misc.train.loop import factor_groups
from misc.train.stage import Stage, require_files, start_of, train
from net.affinitynet import affinity
from net.network import Network, parameter_groups
from net.weights import load_backbone, require_network, save_checkpoint
from pgt.affinity import IGNORE, RADIUS, affinity_labels, affinity_loss, block_mean, confident_label, pair_indices
from step.sets import open_train

if TYPE_CHECKING:
    from run_voc import Aff

SEVERAL_PROCESSES = True


def run(args: Args, failures: Failures) -> None:
    if not args.sem_seg.walk:  # nothing would use it
        return
    recipe = args.aff
    name, weights = start_of(args, "aff", require_network)
    images = open_train(args).images
    maps = crf_maps(images.names, args.result_dir)
    identity = {"network": name, "weights": weights, "maps": digest([path for pair in maps for path in pair])}
    train(
        Stage("aff", recipe, len(images), identity, save_checkpoint),
        args,
        lambda: build(name, weights, not args.quiet),
        lambda network: AffTask(network, images, maps, recipe),
    )


def build(name: str, weights: Path | None, progress: bool) -> Network:
    network = net.build(name, 0, head="affinity")
    load_backbone(network, weights, progress)
    return network


def crf_maps(names: Sequence[str], result_dir: Path) -> list[tuple[Path, Path]]:
    """The la and ha map of each image. Raises InputError, which names one, where some are missing."""
    pairs = [(result_dir / "crf_la" / f"{name}.npz", result_dir / "crf_ha" / f"{name}.npz") for name in names]
    require_files([path for pair in pairs for path in pair], "CRF maps", "make_crf")
    return pairs


class AffTask:
    """See misc.train.loop.Task."""

    def __init__(self, network: Network, images: LabelledImages, maps: Sequence[tuple[Path, Path]], recipe: Aff):
        self.net, self.images, self.maps, self.recipe = network, images, maps, recipe
        self.groups = factor_groups(parameter_groups(network))
        self.fill = tuple(255 * value for value in network.facts.mean)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image = read_named(self.images.files[index])
        la, ha = (read_maps(path, image.shape[:2]) for path in self.maps[index])
        image, *maps = augmented(image, la, ha, self.recipe, self.fill, rng)
        la, ha = (block_mean(torch.from_numpy(m)) for m in maps)
        return image, confident_label(la, ha).numpy()

    def loss(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8, label (N,h,w) uint8 on the grid of the affinities. sure: share of labelled cells."""
        values = affinity(self.net(image).float(), *pair_indices(RADIUS, label.shape[1:]))
        bg, fg, neg = (torch.stack(kind) for kind in zip(*map(affinity_labels, label), strict=True))
        return {"loss": affinity_loss(values, bg, fg, neg), "sure": (label != IGNORE).float().mean()}


def read_maps(path: Path, size: tuple[int, int]) -> np.ndarray:
    """CRF map in path -> (P+1,H,W) float32, background first; all background for an image without a class.

    Raises OSError, which names the file, for one that holds something else or is of another size (H, W).
    """
    with naming(path):
        maps = read_prediction(path, keys="label")
    if not isinstance(maps, Cams) or not (maps.has_background or maps.labels.size == 0):
        raise OSError(f"{path} holds no CRF map; remove it and run make_crf")
    if not maps.labels.size:
        return np.ones((1, *size), np.float32)
    if maps.scores.shape[1:] != size:
        raise OSError(f"{path} is {maps.scores.shape[:0:-1]}, its image {size[::-1]} (width, height)")
    return maps.scores


def augmented(
    image: np.ndarray, la: np.ndarray, ha: np.ndarray, recipe: Aff, fill: Sequence[float], rng: np.random.Generator
) -> list[np.ndarray]:
    """image (H,W,3) uint8 and its maps (P+1,H,W) float32 -> the same part of each, crop x crop; maps are 0 beyond the
    image, which makes labels there unsure."""
    if recipe.jitter or recipe.hue:
        image = color_jitter(image, recipe.jitter, recipe.hue, rng)
    if recipe.long_side:
        image = random_resize_long(image, *recipe.long_side, rng)
    last = [resize_maps(maps, image.shape[:2]).transpose(1, 2, 0) for maps in (la, ha)]
    image, *last = random_flip(random_crop([image, *last], recipe.crop_size, [fill, 0.0, 0.0], rng), rng)
    return [np.ascontiguousarray(image), *(np.ascontiguousarray(maps.transpose(2, 0, 1)) for maps in last)]
