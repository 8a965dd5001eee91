"""A classifier to start from, of what is known of the classes before a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.labelled import LabelledImages
from misc.errors import InputError
from misc.files.images import read_named
from misc.run.device import facts_of
from misc.run.distributed import is_main
from misc.train.augment import random_resize_long, resize
from net import CAMNet, Network
from net.prototypes import calibrated, class_prototypes
from net.synsets import categories, synsets_of
from net.weights import imagenet_file, read_checkpoint
from pgt.sizes import network_size

_PER_CLASS = 100  # images of each, at most, that are looked at before a training


@torch.no_grad()
def pooled_features(
    network: Network, data: LabelledImages, side: int, pool: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """-> features (n,D) and labels (n,K) of the first images of each class, their long side scaled to side, on the CPU.
    pool: images (N,3,H,W), normalised -> (N,D), such as mean_feature of the network. Leaves the network in eval mode.
    Raises OSError, which names an image that cannot be read."""
    first = sorted({int(i) for label in data.labels.T for i in np.flatnonzero(label)[:_PER_CLASS]})
    features = []
    network.eval()
    for i in first:
        image = random_resize_long(read_named(data.files[i]), side, side, np.random.default_rng(0))
        image = resize(image, network_size(image.shape[:2], 1.0, facts_of(network.device).side_step, least=1))
        img = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(network.device)
        features.append(pool(network.normalised(img))[0])
    return torch.stack(features).float().cpu(), torch.from_numpy(data.labels[first])


def mean_feature(network: Network) -> Callable[[Tensor], Tensor]:
    return lambda img: network.backbone(img).mean((2, 3))


def class_rows(
    network: Network, pooled: tuple[Tensor, Tensor], class_names: Sequence[str], weights: Path | None, imagenet: bool
) -> Tensor:
    """-> (K,D), a row per class for the backbone's last tap: a prototype of pooled_features, or with imagenet, that of
    ImageNet's classifier where it knows the class. weights: those that the backbone started from, None for
    ImageNet's."""
    features, label = pooled
    rows = class_prototypes(features, label)
    if not imagenet:
        return rows
    known = imagenet_rows(network.facts.network, class_names, weights)
    return torch.where(known.any(1, keepdim=True), calibrated(known, features), rows)


def imagenet_rows(network: str, class_names: Sequence[str], weights: Path | None) -> Tensor:
    """(K,D): a class's mean row of ImageNet's classifier, 0 where it has none. Tells which. Raises InputError where the
    weights to start from hold no such classifier."""
    file = weights or imagenet_file(network)
    classifier = read_checkpoint(file)
    if not isinstance(classifier, CAMNet) or classifier.facts.num_classes != len(categories()):
        raise InputError(f"{file} holds no classifier of ImageNet's 1000 classes; give --seam_init prototypes")
    rows = classifier.classifier.weight.detach()[..., 0, 0]
    places = [[*synsets_of(name)] for name in class_names]
    if is_main():
        unknown = [name for name, found in zip(class_names, places, strict=True) if not found]
        also = f"; from images alone: {', '.join(unknown)}" if unknown else ""
        print(f"classes known from ImageNet: {len(places) - len(unknown)} of {len(places)}{also}", flush=True)
    rows = rows - rows.mean(0)  # a softmax does not see what all classes have in common
    return torch.stack([rows[found].mean(0) if found else torch.zeros_like(rows[0]) for found in places])
