"""Classifiers of what is known of the classes without a training: from image labels, and from ImageNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.labelled import LabelledImages
from misc.errors import InputError
from misc.files.images import at_most, read_named
from misc.run.distributed import is_main
from misc.train.augment import random_resize_long, resize
from net import CAMNet, Network
from net.prototypes import calibrated, class_prototypes
from net.synsets import categories, synsets_of
from net.weights import imagenet_file, read_checkpoint
from pgt.sizes import network_size

Array = np.ndarray
_PER_CLASS = 100  # images of each, and of none, at most, that are looked at


@torch.no_grad()
def pooled_features(
    network: Network, data: LabelledImages, views: Callable[[Array], Sequence[Array]], pool: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """-> features (n,D) and labels (n,K) of views of the first images of each class, and of none, on the CPU. views: an
    image (H,W,3) uint8 -> some of it; pool: images (N,3,h,w), normalised -> (N,D), such as mean_feature of the network.
    Leaves the network in eval mode. Raises OSError, which names an image that cannot be read."""
    groups = [*data.labels.T, ~data.labels.any(1)]
    first = sorted({int(i) for group in groups for i in np.flatnonzero(group)[:_PER_CLASS]})
    features, labels = [], []
    network.eval()
    for i in first:
        for view in views(read_named(data.files[i])):
            img = torch.from_numpy(np.array(view)).permute(2, 0, 1)[None].to(network.device)
            features.append(pool(network.normalised(img))[0])
            labels.append(torch.tensor(data.labels[i]))
    return torch.stack(features).float().cpu(), torch.stack(labels)


def at_long_side(side: int, step: int) -> Callable[[Array], Sequence[Array]]:
    """Views: the image alone, its long side scaled to side. step: of network_size."""

    def view(image: Array) -> list[Array]:
        image = random_resize_long(image, side, side, np.random.default_rng(0))
        return [resize(image, network_size(image.shape[:2], 1.0, step, least=1))]

    return view


def at_scales(scales: Sequence[float], max_side: int, step: int) -> Callable[[Array], Sequence[Array]]:
    """Views: the image, at max_side at most, at each scale, as make_seg sees it."""

    def view(image: Array) -> list[Array]:
        image = at_most(image, max_side)
        return [resize(image, network_size(image.shape[:2], scale, step, least=1)) for scale in scales]

    return view


def mean_feature(network: Network) -> Callable[[Tensor], Tensor]:
    """-> normalised images (N,3,h,w) -> the mean (N,D) of the backbone's last tap."""
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
    scaled = calibrated(known, features) if len(features) > 1 else known  # a single image has no spread
    return torch.where(known.any(1, keepdim=True), scaled, rows)


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
