"""Pseudo labels -> the final network, DeepLab.

    python run_voc.py ... --seg_labels my_labels        on label maps of your own, <name>.png

Reads   the training images; RESULT_DIR/sem_seg/<name>.png (sem_seg_sure with --sem_seg_confidence); start weights
Writes  RESULT_DIR/ckpt/seg.pth, weights and facts alone; train_seg.csv; states to go on from
Paper   Chen et al., DeepLab, ICLR 2015 (LargeFOV); the recipe is that of SEAM (CVPR 2020) and HFPL (WACV 2024)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import net
from data.datasets import DatasetSpec
from data.labelled import LabelledImages
from misc.errors import naming
from misc.files.predictions import read_label
from misc.run.device import pick_device
from misc.run.distributed import launched, together
from misc.train.augment import random_crop, random_flip, resize
from misc.train.loop import Length, Optimization, describe_identity, fit
from net import NetFacts, Network
from net.weights import load_backbone, save_checkpoint
from step.make_sem_seg import SURE
from step.seg_set import open_train
from step.train_aff import digest, factor_groups, known_network, read_named, require_files, start_weights

SEVERAL_PROCESSES = True
LOSSES = ("cross_entropy", "generalized")


@dataclass(frozen=True)
class SegRecipe:
    """See the flags --seg_<field> for what each is."""

    head: str
    fix_norms: bool
    norm_momentum: float
    crop_size: int
    scale: list[float]
    hsv_jitter: int
    batch_size: int
    num_steps: int
    learning_rate: float
    momentum: float
    weight_decay: float
    head_factor: float
    ema: float
    loss: str
    loss_q: float


def run(args, failures) -> None:
    recipe = SegRecipe(**{f.name: getattr(args, f"seg_{f.name}") for f in fields(SegRecipe)})
    name = known_network(args, "seg")
    part = open_train(args)
    images = part.images
    folder = args.seg_labels or args.result_dir / (SURE if args.sem_seg_confidence else "sem_seg")
    labels = [folder / f"{image}.png" for image in images.names]
    require_files(labels, "pseudo labels", "make_sem_seg")
    with together(pick_device(args.device)) as (processes, device):
        torch.manual_seed(args.seed)
        facts = NetFacts(name, len(images.class_names), head=recipe.head,
                         class_names=images.class_names)  # fmt: skip
        network = net.build_from(facts, fix_norms=recipe.fix_norms, norm_momentum=recipe.norm_momentum)
        load_backbone(network, start_weights(args, "seg"), not args.quiet)
        *_, classifier = (module for module in network.head.modules() if isinstance(module, nn.Conv2d))
        nn.init.normal_(classifier.weight, std=0.01)  # classes start alike, which saves a short training its start
        task = SegTask(network.to(device, memory_format=torch.channels_last), images, labels, part.spec, recipe)
        how = Optimization(learning_rate=recipe.learning_rate, momentum=recipe.momentum, ema=recipe.ema,
                           weight_decay=recipe.weight_decay, accumulate=args.accumulate)  # fmt: skip
        length = Length(len(images), recipe.batch_size, recipe.num_steps, args.seed, args.state_steps)
        identity = describe_identity(how, length, **asdict(recipe), network=name, weights=start_weights(args, "seg"),
                                     labels=digest(labels), classes=images.class_names)  # fmt: skip
        ckpt = args.result_dir / "ckpt"
        fit(task, how, length, ckpt / "train_seg", args.result_dir / "train_seg.csv", identity, device, processes,
            args.resume, args.num_workers, args.quiet)  # fmt: skip
    if launched().rank == 0:
        save_checkpoint(ckpt / "seg.pth", network)
        print(f"train_seg: {ckpt / 'seg.pth'}", flush=True)


class SegTask:
    """See misc.train.loop.Task."""

    def __init__(
        self, network: Network, images: LabelledImages, labels: Sequence[Path], spec: DatasetSpec, recipe: SegRecipe
    ):
        self.net, self.images, self.labels, self.spec, self.recipe = network, images, labels, spec, recipe
        self.groups = factor_groups(network, recipe.head_factor)
        self.fill = tuple(255 * value for value in network.facts.mean)
        cv2.setNumThreads(1)  # the reading threads are the parallelism

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image = read_named(self.images.files[index])
        label = read_pseudo_label(self.labels[index], image.shape[:2], self.spec)
        return tuple(augmented(image, label, self.recipe, self.fill, self.spec.ignore, rng))

    def loss(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8, label (N,H,W) uint8."""
        logits = self.net(image).float()
        if self.recipe.loss == "generalized":
            return {"loss": generalized_cross_entropy(logits, label.long(), self.recipe.loss_q, self.spec.ignore)}
        return {"loss": F.cross_entropy(logits, label.long(), ignore_index=self.spec.ignore)}

    def validate(self, network: Network) -> dict[str, float]:
        """Nothing: make_seg and eval_seg tell what the network is worth."""
        return {}


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
    image: np.ndarray, label: np.ndarray, recipe: SegRecipe, fill, ignore: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """image (H,W,3) uint8 and its label (H,W) uint8 -> the same part of both, crop x crop."""
    if recipe.hsv_jitter:
        image = hsv_jitter(image, recipe.hsv_jitter, rng)
    image, label = random_flip([image, label], rng)
    scale = rng.uniform(*recipe.scale)
    size = tuple(max(1, round(side * scale)) for side in label.shape)
    image = resize(np.ascontiguousarray(image), size)
    label = cv2.resize(np.ascontiguousarray(label), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return random_crop([image, label], recipe.crop_size, [fill, ignore], rng)


def hsv_jitter(image: np.ndarray, strength: int, rng: np.random.Generator) -> np.ndarray:
    """image (H,W,3) uint8: hue (0..179), saturation and value (0..255) moved by a whole number of up to +- strength
    each (SEAM's and HFPL's RandomHSV)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV) + rng.integers(-strength, strength + 1, 3, dtype=np.int16)
    hsv[..., 0] %= 180
    return cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def generalized_cross_entropy(logits: Tensor, label: Tensor, q: float, ignore: int) -> Tensor:
    """logits (N,C,H,W), label (N,H,W) -> the mean of (1 - p^q) / q over pixels that are not `ignore`, where p is the
    probability of the label. q towards 0 gives cross entropy, q 1 the mean absolute error, which wrong labels trouble
    least; 0 without pixels. Source: Zhang & Sabuncu, NeurIPS 2018, equation 6."""
    sure = label != ignore
    log_p = -F.cross_entropy(logits, label, ignore_index=ignore, reduction="none")
    return (((1 - (q * log_p).exp()) / q) * sure).sum() / sure.sum().clamp(min=1)
