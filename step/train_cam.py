"""Images with image-level labels -> a CAM network.

    python run_sample.py --train_cam_pass --cls_dataset_dir my_photos          a folder per class
    torchrun --nproc-per-node 4 run_sample.py --train_cam_pass ...             on four devices

Reads   the images of --cls_dataset_dir (data/labelled.py); ImageNet weights (net/weights.py)
Writes  RESULT_DIR/ckpt/cam.pth, weights and facts alone; cam_best.pth, of the epoch with the best maps, where boxes or
        masks are given; train.csv; states to go on from; metrics.json
Paper   generatePGT (MFNet, ICCV 2021) and IRN (CVPR 2019) for the published recipe
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import net
from data.labelled import LabelledImages, describe, open_labelled, require_learnable
from misc.errors import InputError
from misc.files.boxes import ImageBoxes, read_boxes
from misc.files.images import read_image, read_mask, read_named
from misc.files.listing import find_masks, matched
from misc.files.store import read_json, write_json
from misc.report.overview import cam_overlay
from misc.run.device import facts_of
from misc.run.distributed import is_main
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train import augment
from misc.train.loop import Group
from misc.train.stage import Stage, train
from net import Network
from net.fast.for_training import for_training
from net.weights import load_backbone, require_network, save_checkpoint
from pgt.losses import feature_similarity_loss, max_norm, multilabel_soft_margin, pos_weight_for, with_background
from pgt.metrics.classification import ClassScores
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import SaliencyMetrics
from pgt.sizes import network_size

if TYPE_CHECKING:
    from run_sample import TrainCam

SEVERAL_PROCESSES = True
DEFAULT_NETWORK = "resnet50"
_PANELS = 4


def run(args: Args, failures: Failures) -> None:
    recipe = args.train_cam
    data, val = open_data(args)
    if is_main():
        print(describe(data), flush=True)
    name = args.cam_network or DEFAULT_NETWORK
    require_network(name, "--cam_network")
    validation = Validation(data, val, recipe.crop_size, args)
    pretrained = args.cam_init_weights or not args.no_pretrained
    identity = {"network": name, "classes": data.class_names, "pretrained": str(pretrained)}
    scores = train(
        Stage("cam", recipe, len(data), identity, save_checkpoint, "train.csv", validation),
        args,
        lambda: build(args, name, data, recipe),
        lambda network: CamTask(network, data, recipe),
    )
    if is_main():
        held = read_json(args.result_dir / "metrics.json")
        write_json(args.result_dir / "metrics.json", {**held, "train_cam": scores})


def open_data(args: Args) -> tuple[LabelledImages, LabelledImages | None]:
    if args.cls_dataset_dir is None:
        raise InputError("--train_cam_pass needs --cls_dataset_dir, such as a folder with a folder of images per class")
    data = open_labelled(args.cls_dataset_dir, args.cls_layout, flag="--cls_dataset_dir")
    require_learnable(data, "--cls_dataset_dir")
    if args.cls_val_dir is None:
        return data, None
    return data, open_labelled(args.cls_val_dir, args.cls_layout, class_names=data.class_names, flag="--cls_val_dir")


def build(args: Args, name: str, data: LabelledImages, recipe: TrainCam) -> Network:
    """The network as training finds it: what is fixed is so only where there are weights worth keeping."""
    head = "softmax" if loss_name(recipe, data) == "cross_entropy" else "sigmoid"
    network = net.build(name, len(data.class_names), layout=recipe.layout, head=head, class_names=data.class_names)
    nn.init.normal_(network.classifier.weight, std=0.01)
    if args.cam_init_weights or not args.no_pretrained:
        load_backbone(network, args.cam_init_weights, not args.quiet)
        network.fix(network.backbone.cam_fixed)
    return network


def loss_name(recipe: TrainCam, data: LabelledImages) -> str:
    return recipe.loss if recipe.loss != "auto" else "cross_entropy" if data.single_label else "soft_margin"


class CamTask:
    """See misc.train.loop.Task."""

    def __init__(self, network: Network, data: LabelledImages, recipe: TrainCam):
        self.net, self.data, self.recipe = network, data, recipe
        self.groups = [
            Group(list(network.backbone.parameters())),
            Group(list(network.classifier.parameters()), recipe.head_factor),
        ]
        self._twin = for_training(network)
        self.fill = tuple(255 * value for value in network.facts.mean)
        # the smallest part of a photograph that becomes a crop has half of its short side
        self.read_side = 2 * recipe.crop_size if facts_of(network.device).spares_readers else 0
        self.kind = loss_name(recipe, data)
        self.pos_weight = None
        if self.kind == "bce_balanced":
            self.pos_weight = pos_weight_for(torch.tensor(data.labels)).to(network.device)

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image = read_named(self.data.files[index], self.read_side)
        return augmented(image, self.recipe, self.fill, rng), self.data.labels[index].astype(np.float32)

    def loss(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        logits, cam = self._twin.train(self.net.training)(image)
        if self.kind == "cross_entropy":
            cls = F.cross_entropy(logits.float(), label, label_smoothing=self.recipe.label_smoothing)
        else:
            cls = multilabel_soft_margin(logits, label, self.pos_weight)
        if not self.recipe.fsl_weight:
            return {"loss": cls}
        score = with_background(max_norm(cam) * label[..., None, None])
        fsl = feature_similarity_loss(image / 255, score)
        return {"loss": cls + self.recipe.fsl_weight * fsl, "cls": cls, "fsl": fsl}


@dataclass
class MapScores:
    """Maps of images against boxes and masks, whichever there are: max_box_acc at an IoU of 0.5, max_f."""

    boxes: dict[str, ImageBoxes] | None = None
    masks: dict[str, Path] | None = None
    _boxes: BoxAccuracy = field(default_factory=BoxAccuracy)
    _f: SaliencyMetrics = field(default_factory=SaliencyMetrics)

    def step(self, name: str, cam: np.ndarray, size: tuple[int, int]) -> None:
        """Add the image of this name and size (H, W), if it has boxes or a mask: maps (P,h,w) in [0,1] of its classes.

        Raises OSError for a mask that cannot be read or is of another size.
        """
        if not len(cam):
            return
        cam = cv2.resize(cam.max(axis=0), size[::-1], interpolation=cv2.INTER_LINEAR)
        if self.boxes and name in self.boxes:
            self._boxes.step(cam, self.boxes[name].at(size))
        if self.masks and name in self.masks:
            mask = read_mask(file := self.masks[name])
            if mask.shape != size:
                raise OSError(f"{file} is {mask.shape[1]} x {mask.shape[0]}, its image {size[1]} x {size[0]}")
            self._f.step((255 * cam).round().astype(np.uint8), mask)

    def get_results(self) -> dict[str, float]:
        found = {"max_box_acc": self._boxes.get_results()["max_box_acc"]} if self._boxes.n else {}
        return {**found, "max_f": float(self._f.get_results()["max_f"])} if self._f.n else found


class Validation:
    """What is told of a network after an epoch, see Run.on_epoch; the best network is RESULT_DIR/ckpt/cam_best.pth."""

    def __init__(self, data: LabelledImages, val: LabelledImages | None, side: int, args: Args):
        self.shown, self.val, self.side = val or data, val, side
        names = val.names if val else ()
        self.boxes = matched(names, read_boxes(args.cls_val_boxes)) if args.cls_val_boxes else None
        self.masks = find_masks(args.cls_val_masks, names, "--cls_val_masks") if args.cls_val_masks else None
        for flag, found in (("--cls_val_boxes", self.boxes), ("--cls_val_masks", self.masks)):
            if found == {}:
                raise InputError(f"{flag}: none of it is of an image of --cls_val_dir; give those of its names")
        self.best, self.best_file = -1.0, args.result_dir / "ckpt" / "cam_best.pth"
        self.board = None
        if args.tensorboard and is_main():
            with contextlib.suppress(ImportError):  # where it is not installed
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(args.result_dir / "tensorboard"))

    def __call__(self, step: int, task: CamTask, speed: dict[str, float]) -> dict[str, float]:
        scores = {**self.scores(task.net), **speed}
        if self.board:
            for name, value in scores.items():
                self.board.add_scalar(name, value, step)
            for name, picture in self.panels(task.net):
                self.board.add_image(name, picture, step, dataformats="HWC")
            self.board.flush()
        score = scores.get("max_box_acc", scores.get("max_f", -1.0))
        if score > self.best:
            self.best = score
            save_checkpoint(self.best_file, task.net)
        return scores

    def scores(self, network: Network) -> dict[str, float]:
        """top1 or mean_ap; where boxes or masks are given, max_box_acc and max_f of the maps."""
        if self.val is None:
            return {}
        fast = net.for_inference(network)
        classes, maps = ClassScores(self.val.single_label), MapScores(self.boxes, self.masks)
        for file, name, label in zip(self.val.files, self.val.names, self.val.labels, strict=True):
            image = read_image(file)
            logits, cam = validation_cam(fast, image, self.side)
            classes.step(logits, label)
            maps.step(name, cam[label.astype(bool)], image.shape[:2])
        return {**classes.get_results(), **maps.get_results()}

    def panels(self, network: Network) -> Iterator[tuple[str, np.ndarray]]:
        """Pictures of the first images with the maps of their classes."""
        for i in range(min(_PANELS, len(self.shown))):
            image = read_image(self.shown.files[i])
            cam = validation_cam(network, image, self.side)[1][self.shown.labels[i].astype(bool)]
            if len(cam):
                cam = cv2.resize(cam.max(0), image.shape[1::-1])
                yield f"cam/{self.shown.names[i]}", cam_overlay(image, (255 * cam).round().astype(np.uint8))


def augmented(image: np.ndarray, recipe: TrainCam, fill: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """image (H,W,3) uint8 -> (crop,crop,3) uint8."""
    crop = recipe.crop_size
    if recipe.augment == "resize":  # generatePGT
        image = augment.resize(image, (crop, crop))
    elif recipe.augment == "crop":  # IRN
        image = augment.random_resize_long(image, round(crop * 0.625), round(crop * 1.25), rng)
        image = augment.random_crop([image], crop, [fill], rng)[0]
    else:
        image = augment.random_resized_crop(image, crop, (0.35, 1.0), rng)
    image = augment.random_flip([image], rng)[0]
    if recipe.jitter:
        image = augment.color_jitter(image, recipe.jitter, 0.0, rng)
    if recipe.erasing:
        image = augment.random_erasing(image, recipe.erasing, (0.05, 0.3), fill, rng)
    return np.ascontiguousarray(image)


@torch.inference_mode()
def validation_cam(network: Network, image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """image (H,W,3) uint8 -> logits (K,), and the maps of the image and its mirror (K,h,w) in [0,1], at the scale at
    which the short side is that of the training."""
    scale = side / min(image.shape[:2])
    size = tuple(round(n * scale) for n in image.shape[:2])
    image = augment.resize(image, network_size(size, 1.0, facts_of(network.device).side_step, least=1))
    img = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(network.device)
    logits, cam = network.cam(torch.cat([img, img.flip(-1)]))
    cam = (cam[0] + cam[1].flip(-1)).float().relu()
    cam = cam / cam.amax((1, 2), keepdim=True).clamp(min=1e-5)
    return logits.float().mean(0).cpu().numpy(), cam.cpu().numpy()
