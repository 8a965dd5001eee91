"""Pseudo labels -> the final network, DeepLab.

    python run_voc.py ... --seg_labels my_labels        on label maps of your own, <name>.png

Reads   the training images; RESULT_DIR/sem_seg/<name>.png (sem_seg_sure with --sem_seg_confidence); start weights;
        for head objects the image labels, and the saliency network that comes along
Writes  RESULT_DIR/ckpt/seg.pth, weights and facts alone; train_seg.csv; states to go on from
Paper   Chen et al., DeepLab, ICLR 2015 (LargeFOV); the recipe is that of SEAM (CVPR 2020) and HFPL (WACV 2024)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

import net
from data.datasets import DatasetSpec
from data.labelled import LabelledImages, digest
from misc.errors import InputError, naming
from misc.files.images import read_named
from misc.files.predictions import read_label
from misc.run.device import facts_of, out_of_memory, side_step_for
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import hsv_jitter, random_crop, random_flip, resize
from misc.train.checkpoint import last_state
from misc.train.loop import factor_groups
from misc.train.recolor import hsv_jitter_steps, recolored
from misc.train.stage import Stage, require_files, start_of, train
from net import CAMNet, NetFacts, Network, SalNet, SEAMNet
from net.deeplab import ObjectsAndClasses
from net.network import parameter_groups
from net.prototypes import fitted
from net.seam import classifier_of
from net.student import student_file
from net.weights import load_backbone, read_checkpoint, read_network, require_network, save_checkpoint
from pgt.losses import generalized_cross_entropy
from step.classes import at_scales, class_rows, pooled_features
from step.sets import open_train

if TYPE_CHECKING:
    from run_voc import Seg

SEVERAL_PROCESSES = True


def run(args: Args, failures: Failures) -> None:
    name, weights = start_of(args, "seg", require_network)
    images, spec = (part := open_train(args)).images, part.spec
    recipe = at_most_epoches(args.seg, len(images), args.seg_most_epoches)
    folder = args.seg_labels or args.result_dir / ("sem_seg_sure" if args.sem_seg.confidence else "sem_seg")
    labels = [folder / f"{image}.png" for image in images.names]
    require_files(labels, "pseudo labels", "make_sem_seg")
    identity = {"network": name, "weights": weights, "labels": digest(labels), "classes": images.class_names}
    if recipe.head == "objects":  # see know_classes
        told = hashlib.sha256(np.ascontiguousarray(images.labels).tobytes()).hexdigest()
        identity |= {"image_labels": told, "scales": args.seg_scales, "max_side": args.max_side, "init": args.seam.init}
    facts = NetFacts(name, len(images.class_names), head=recipe.head, class_names=images.class_names)
    known = images, weights, args
    train(
        Stage("seg", recipe, len(images), identity, lambda file, held: save_checkpoint(file, end(held, *known))),
        args,
        lambda: build(facts, weights, recipe, not args.quiet),
        lambda network: SegTask(begin(network, *known), images, labels, spec, recipe),
    )


def at_most_epoches(recipe: Seg, num_images: int, epoches: float) -> Seg:
    """The recipe with no more steps than these passes over the images; 0: as it is."""
    most = max(1, round(epoches * num_images / recipe.batch_size)) if epoches else recipe.num_steps
    return replace(recipe, num_steps=min(recipe.num_steps, most))


def build(facts: NetFacts, weights: Path | None, recipe: Seg, progress: bool) -> Network:
    network = net.build_from(facts, fix_norms=recipe.fix_norms, norm_momentum=recipe.norm_momentum)
    load_backbone(network, weights, progress)
    if isinstance(network.head, ObjectsAndClasses):
        return network  # begin knows more
    *_, classifier = (module for module in network.head.modules() if isinstance(module, nn.Conv2d))
    nn.init.normal_(classifier.weight, std=0.01)  # classes start alike, which saves a short training its start
    return network


def begin(network: Network, images: LabelledImages, weights: Path | None, args: Args) -> Network:
    """network; a head of objects and classes starts with what is known of both. Raises InputError, which names an image
    that cannot be read."""
    head = network.head
    if isinstance(head, ObjectsAndClasses):
        head.know_objects(saliency_of(network.facts))
        if not (args.resume and last_state(args.result_dir / "ckpt" / "train_seg")):
            know_classes(network, images, weights, args)
        if args.seg.fix_classes:
            for part in (network.backbone, head.classifier, head.image):
                part.requires_grad_(False)
    return network


def end(network: Network, images: LabelledImages, weights: Path | None, args: Args) -> Network:
    """network; classes that were fixed are told by what the decoder now takes for objects."""
    if isinstance(network.head, ObjectsAndClasses) and args.seg.fix_classes:
        know_classes(network, images, weights, args)
    return network


def know_classes(network: Network, images: LabelledImages, weights: Path | None, args: Args) -> None:
    """Fits the classifiers of a head of objects and classes, at the scales at which it will label."""
    head, step = network.head, side_step_for(network.device, args.side_step)
    views = at_scales(args.seg_scales, args.max_side, step)
    try:
        with out_of_memory("lower --max_side"):
            pool = lambda img: head.mean_feature(network.backbone.all_taps(img))  # noqa: E731
            pooled = pooled_features(network, images, views, pool)
    except OSError as e:
        raise InputError(f"{e}; mend it or take it away") from e
    rows = classes_of(network, pooled, weights, args)
    head.know_classes(rows, fitted(rows, *pooled))


def classes_of(network: Network, pooled: tuple[Tensor, Tensor], weights: Path | None, args: Args) -> Tensor:
    """Rows (K,D): those of the CAM network of these classes that weights hold, else as train_seam starts."""
    held = weights and read_checkpoint(weights)
    names = network.facts.class_names
    if isinstance(held, (CAMNet, SEAMNet)) and held.facts.class_names == names:
        return classifier_of(held).weight.detach()[-network.facts.num_classes :, :, 0, 0]
    return class_rows(network, pooled, names, weights, args.seam.init == "imagenet")


def saliency_of(facts: NetFacts) -> SalNet | None:
    """The saliency network that comes along, where it has this backbone."""
    network = read_network(student_file(), SalNet)
    return network if network.facts.network == facts.network else None


class SegTask:
    """See misc.train.loop.Task."""

    def __init__(
        self, network: Network, images: LabelledImages, labels: Sequence[Path], spec: DatasetSpec, recipe: Seg
    ):
        self.net, self.images, self.labels, self.spec, self.recipe = network, images, labels, spec, recipe
        self.groups = factor_groups(parameter_groups(network), recipe.head_factor)
        self.fill = tuple(255 * value for value in network.facts.mean)
        self.spares = facts_of(network.device).spares_readers

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        image = read_named(self.images.files[index])
        label = read_pseudo_label(self.labels[index], image.shape[:2], self.spec)
        return tuple(augmented(image, label, self.recipe, self.fill, self.spec.ignore, rng, self.spares))

    def loss(self, image: Tensor, label: Tensor, *colors: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8, label (N,H,W) uint8; colors: what recolored takes, where colours are still to be
        changed."""
        image = recolored(image, *colors) if colors else image
        logits = self.net(image).float()
        if self.recipe.loss == "generalized":
            return {"loss": generalized_cross_entropy(logits, label.long(), self.recipe.loss_q, self.spec.ignore)}
        return {"loss": F.cross_entropy(logits, label.long(), ignore_index=self.spec.ignore)}


def read_pseudo_label(path: Path, size: tuple[int, int], spec: DatasetSpec) -> np.ndarray:
    """-> (H,W) uint8. Raises OSError, which names the file, for another size (H, W) or a value that is no label."""
    with naming(path):
        label = read_label(path)
    if label.shape != size:
        raise OSError(f"{path} is {label.shape[::-1]}, its image {size[::-1]} (width, height)")
    if ((label >= spec.num_classes) & (label != spec.ignore)).any():
        raise OSError(f"{path} holds {label[label != spec.ignore].max()}, which is no label of {spec.name}")
    return label.astype(np.uint8)


def augmented(
    image: np.ndarray, label: np.ndarray, recipe: Seg, fill: Sequence[float], ignore: int, rng: np.random.Generator,
    spares: bool = False,
) -> list[np.ndarray]:  # fmt: skip
    """image (H,W,3) uint8 and its label (H,W) uint8 -> the same part of both, crop x crop; spares: the image's colours
    as they were, and what recolored takes."""
    steps = [hsv_jitter_steps(recipe.hsv_jitter, rng)] if spares else []
    image = image if spares else hsv_jitter(image, recipe.hsv_jitter, rng)
    image, label = random_flip([image, label], rng)
    scale = rng.uniform(*recipe.scale)
    size = tuple(max(1, round(side * scale)) for side in label.shape)
    label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    arrays, fills = [resize(image, size), label], [fill, ignore]
    if not spares:
        return random_crop(arrays, recipe.crop_size, fills, rng)
    image, label, inside = random_crop([*arrays, np.ones(size, np.uint8)], recipe.crop_size, [*fills, 0], rng)
    return [image, label, *steps, inside]
