"""Images with image-level labels -> a SEAM network, with HFPL's two losses; with --seam_as_known a CAM network, not
trained, where ImageNet's classifier has all classes.

    python run_voc.py --seam_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params
    python run_voc.py --method seam        without importance sampling and feature similarity
    python run_voc.py --method plain       a CAM network without SEAM, to compare with

Reads   the training images of the set (step/sets.py) and their classes; weights to start from (net/weights.py)
Writes  RESULT_DIR/ckpt/seam.pth, weights and facts alone; train_seam.csv; states to go on from
Paper   SEAM (CVPR 2020); HFPL (WACV 2024), whose recipe is the default
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

import net
from data.labelled import LabelledImages, describe, require_learnable
from misc.errors import InputError
from misc.files.images import read_named
from misc.run.device import facts_of
from misc.run.distributed import is_main
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import color_jitter, random_crop, random_flip, random_resize_long
from misc.train.loop import Group, Order, factor_groups
from misc.train.recolor import color_jitter_steps, recolored
from misc.train.stage import Stage, start_of, train
from net import NetFacts, Network, SEAMNet
from net.fast.for_training import for_training
from net.network import Fixed, parameter_groups, resized
from net.seam import classifier_of
from net.synsets import synsets_of
from net.weights import load_backbone, require_network, save_checkpoint
from pgt.losses import SEAMWeights, multilabel_soft_margin, seam_loss
from step.classes import at_long_side, class_rows, mean_feature, pooled_features
from step.sets import open_train

if TYPE_CHECKING:
    from run_voc import Seam

SEVERAL_PROCESSES = True
_WHITENED_FROM = 24  # images


def run(args: Args, failures: Failures) -> None:
    data = open_train(args).images
    require_learnable(data, "--data_dir")
    if is_main():
        print(describe(data), flush=True)
    name, weights = start_of(args, "seam", require_network)
    classes = data.class_names
    recipe, method = args.seam, args.method
    if recipe.init == "imagenet" and args.seam_as_known and all(map(synsets_of, classes)):
        recipe, method = replace(recipe, num_epoches=0), "plain"
        if is_main():
            print("train_seam: ImageNet's classifier has all classes; --seam_as_known False trains", flush=True)
    losses = loss_weights(method, args)
    facts = NetFacts(name, len(classes), head="seam" if losses else "sigmoid", class_names=classes)
    identity = {"network": name, "weights": weights, "method": method, "losses": losses, "classes": classes}
    train(
        Stage("seam", recipe, len(data), identity, save_checkpoint),
        args,
        lambda: build(facts, weights, recipe, not args.quiet),
        lambda network: begin(SeamTask(network, data, recipe, losses), args.seed, weights),
    )


def loss_weights(method: str, args: Args) -> SEAMWeights | None:
    """None for a CAM network without SEAM."""
    if method == "plain":
        return None
    return args.losses if method == "hfpl" else SEAMWeights(isl_weight=0, fsl_weight=0)


def build(facts: NetFacts, weights: Path | None, recipe: Seam, progress: bool) -> Network:
    """The network as training finds it; either kind has the same layers fixed."""
    network = net.build_from(facts)
    load_backbone(network, weights, progress)
    if facts.head == "sigmoid":
        nn.init.xavier_uniform_(network.classifier.weight)
    network.fix(Fixed(network.backbone.early_layers, norms=recipe.fix_norms))
    return network


class SeamTask:
    """See misc.train.loop.Task. weights None: classification alone, by a CAM network."""

    def __init__(self, network: Network, data: LabelledImages, recipe: Seam, weights: SEAMWeights | None):
        self.net, self.data, self.recipe, self.weights = network, data, recipe, weights
        self._twin = for_training(network)
        *old, new, new_biases = parameter_groups(network)
        pcm = {*network.pcm_weights()} if weights else set()
        rest = [weight for weight in new if weight not in pcm]
        self.groups = [
            *factor_groups((*old, rest, new_biases), recipe.head_factor),
            Group([weight for weight in new if weight in pcm], recipe.pcm_factor),
        ]
        self.fill = tuple(255 * value for value in network.facts.mean)
        self.spares = facts_of(network.device).spares_readers

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        image = read_named(self.data.files[index], max(self.recipe.long_side) if self.spares else 0)
        image, *colors = augmented(image, self.recipe, self.fill, rng, self.spares)
        return image, self.data.labels[index].astype(np.float32), *colors

    def loss(self, image: Tensor, label: Tensor, *colors: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8, label (N,K); colors: what recolored takes, where colours are still to be changed."""
        image = recolored(image, *colors) if colors else image
        twin = self._twin.train(self.net.training)
        if self.weights is None:
            return {"loss": multilabel_soft_margin(twin(image)[0], label)}
        parts = two_view_loss(twin, image, label, self.weights, self.recipe.view_scale)
        return {"loss": parts.pop("total"), **parts}


def begin(task: SeamTask, seed: int, weights: Path | None) -> SeamTask:
    """task, its new layers as recipe.init says. Raises InputError, which names an image that cannot be read."""
    try:
        if task.recipe.init != "published":
            start_calmly(task, seed)
        if task.recipe.init in ("prototypes", "imagenet"):
            start_from_classes(task, weights)
    except OSError as e:
        raise InputError(f"{e}; mend it or take it away") from e
    return task


def start_calmly(task: SeamTask, seed: int) -> None:
    """New layers for a training of some hundred steps: a classifier near 0, so that its first gradients do not tear up
    the backbone, and a whitened PCM, which is of use at once."""
    network = task.net
    nn.init.normal_(classifier_of(network).weight, std=0.01)
    if isinstance(network, SEAMNet):
        order, places = Order(len(task.data), seed), range(min(_WHITENED_FROM, len(task.data)))
        pictures = [(read_named(task.data.files[order[at]]), np.random.default_rng((seed, 3, at))) for at in places]
        images = [augmented(picture, task.recipe, task.fill, rng)[0] for picture, rng in pictures]
        network.whiten_pcm(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(network.device))


def start_from_classes(task: SeamTask, weights: Path | None) -> None:
    """A classifier that knows the classes."""
    side, imagenet = sum(task.recipe.long_side) // 2, task.recipe.init == "imagenet"
    views = at_long_side(side, facts_of(task.net.device).side_step)
    pooled = pooled_features(task.net, task.data, views, mean_feature(task.net))
    rows = class_rows(task.net, pooled, task.data.class_names, weights, imagenet)
    with torch.no_grad():
        classifier_of(task.net).weight[-len(rows) :] = rows[..., None, None]  # after background


def two_view_loss(
    network: SEAMNet, image: Tensor, label: Tensor, weights: SEAMWeights, scale: float
) -> dict[str, Tensor]:
    """image (N,3,H,W) uint8, label (N,K) -> seam_loss of the image and of the image at this scale."""
    size = tuple(image.shape[2:])
    sizes = size, tuple(int(side * scale) for side in size)
    first = network.grid(image)
    second = network.grid(resized(image.float(), sizes[1]))
    return seam_loss((*first, first[0]), second, image / 255, label, weights, sizes=sizes)


def augmented(
    image: np.ndarray, recipe: Seam, fill: Sequence[float], rng: np.random.Generator, spares: bool = False
) -> list[np.ndarray]:
    """image (H,W,3) uint8 -> [(crop,crop,3) uint8]; spares: its colours as they were, and what recolored takes."""
    image = random_resize_long(image, *recipe.long_side, rng)
    image = random_flip([image], rng)[0]
    if not spares:
        image = color_jitter(image, recipe.jitter, recipe.hue, rng)
        return random_crop([image], recipe.crop_size, [fill], rng)
    steps = color_jitter_steps(image, recipe.jitter, recipe.hue, rng)
    image, inside = random_crop([image, np.ones(image.shape[:2], np.uint8)], recipe.crop_size, [fill, 0], rng)
    return [image, steps, inside]
