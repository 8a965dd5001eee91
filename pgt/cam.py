"""Multi-scale class activation maps, the class-agnostic saliency made of them, and the maps of an image's own classes.

generatePGT / IRNet inference: at every scale the image and its mirror, ReLU(CAM) of both added (mirrored back), brought
bilinearly to a quarter of the image, summed over scales. SEAM / HFPL inference: the maps of the classes that the image
is known to have, brought to its size, summed, and each class normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

MIN_SIDE = 32  # a shorter side is stretched to this before the network: deep pooling needs something to pool
SHARE = 0.9999  # only the classes that carry this share of the weight are turned into maps
_EPS = 1e-5


class MapNet(Protocol):
    """cam: images (N,3,H,W) uint8 -> logits (N,K), maps (N,K,h,w) before ReLU, or (N,P,h,w) of the class ids keys."""

    @property
    def device(self) -> torch.device: ...
    def cam(self, img: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]: ...


class CAMNet(MapNet, Protocol):
    """A network whose maps and logits are linear in its features (N,D,h,w); facts.head: "sigmoid" or "softmax"."""

    facts: Any

    def features(self, img: Tensor) -> Tensor: ...
    def logits(self, features: Tensor) -> Tensor: ...
    def maps(self, features: Tensor, keys: Tensor) -> Tensor: ...
    def probabilities(self, logits: Tensor) -> Tensor: ...


def quarter_size(size: Sequence[int]) -> tuple[int, int]:
    """(H, W) of an image -> (h, w) of its maps."""
    return (size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1


def mirrored_batch(images: Sequence[np.ndarray], scale: float) -> Tensor:
    """B images (H,W,3) uint8 of one size -> (2B,3,h,w) uint8 at the scale (bicubic): the images, then their mirrors."""
    height, width = (max(MIN_SIDE, int(np.round(side * scale))) for side in images[0].shape[:2])
    if (height, width) != images[0].shape[:2]:
        pictures = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in images]
        images = [np.asarray(picture) for picture in pictures]
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return torch.cat([batch, batch.flip(-1)])


def unmirror(maps: Tensor) -> Tensor:
    """(2B,...,w), the second half seen in a mirror -> (B,...,w), both halves added."""
    plain, mirrored = maps.chunk(2)
    return plain + mirrored.flip(-1)


def class_power(net: CAMNet, power: float | None) -> float:
    """power, or where it is None what makes the better maps: 1, as published, for a sigmoid head; 0 for a softmax head.

    A softmax head divides one probability among its classes, and the most probable ones see parts of the objects: with
    all classes alike the labels are better (README).
    """
    return float(net.facts.head == "sigmoid") if power is None else power


@torch.inference_mode()
def multi_scale_saliency(
    net: CAMNet, images: Sequence[np.ndarray], scales: Sequence[float], power: float = 1.0
) -> list[Tensor]:
    """B images (H,W,3) uint8 RGB of one size -> B saliency maps (h,w) in [0,1] at a quarter of their size.

    Classes weigh by their probability to the power. As published, but without a map per class: resizing is linear, so
    the classes are summed on the network's own grid, and those that weigh nothing are left out.
    """
    scales = sorted(scales, reverse=True)  # the largest takes the memory that serves the others
    features = [net.features(mirrored_batch(images, scale).to(net.device)) for scale in scales]
    logits = torch.stack([net.logits(f) for f in features]).mean(0).view(2, len(images), -1).mean(0)
    weights = net.probabilities(logits.float()) ** power
    return [_saliency(net, [f[i :: len(images)] for f in features], weights[i], quarter_size(images[0].shape))
            for i in range(len(images))]  # fmt: skip


def _saliency(net: CAMNet, features: Sequence[Tensor], weight: Tensor, size: tuple[int, int]) -> Tensor:
    """features: at each scale (2,D,h,w) of one image and its mirror; weight (K,) -> saliency of this size."""
    keys = relevant_classes(weight)
    total = torch.zeros((), device=weight.device)
    for f in features:
        saliency = unmirror(torch.einsum("nkhw,k->nhw", net.maps(f, keys).float().relu_(), weight[keys]))
        total = total + interpolate(saliency[None], size, mode="bilinear", align_corners=False)
    return total[0, 0] / (total.max() + _EPS)


def relevant_classes(weight: Tensor, share: float = SHARE) -> Tensor:
    """The fewest class ids (P,), weightiest first, whose weights (K,) make up this share of all."""
    ordered, ids = weight.sort(descending=True)
    return ids[: int((ordered.cumsum(0) < share * ordered.sum()).sum()) + 1]


def normalised_maps(cam: Tensor) -> Tensor:
    """cam (P,H,W), sums over scales -> [0,1]: negative values are 0, then each class is stretched from its lowest value
    + 1e-5 to its highest.

    SEAM's inference; as published the lowest pixels come out below 0 (-min / (max - min)): here they are 0.
    """
    cam = cam.clamp(min=0)
    lowest, highest = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    return ((cam - lowest - _EPS) / (highest - lowest + _EPS)).clamp_(min=0)


def fuse_cams(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """maps: (P,h,w) of the present classes at each scale and mirror (mirrored back), before or after ReLU -> (P,*size)
    in [0,1]: each brought to size (bilinear, corners not aligned), summed, normalised_maps."""
    resized = (interpolate(m[None].float(), tuple(size), mode="bilinear", align_corners=False)[0] for m in maps)
    return normalised_maps(sum(resized, torch.zeros((), device=maps[0].device)))


@torch.inference_mode()
def present_class_cam(
    net: MapNet, image: np.ndarray, keys: Tensor, scales: Sequence[float], size: Sequence[int] | None = None
) -> Tensor:
    """image (H,W,3) uint8 RGB, keys (P,) its foreground classes from 0, P > 0 -> (P,H,W) in [0,1], or of `size`.

    net: its maps before ReLU are taken, for SEAM the revised ones. SEAM's inference.
    """
    maps = []
    for scale in scales:
        _, cam = net.cam(mirrored_batch([image], scale).to(net.device), keys)
        maps += [cam[0], cam[1].flip(-1)]
    return fuse_cams(maps, size or image.shape[:2])
