"""Multi-scale class activation maps, the class-agnostic saliency made of them, and the maps of an image's own classes.

generatePGT / IRNet inference: at every scale the image and its mirror, ReLU(CAM) of both added (mirrored back), brought
bilinearly to a quarter of the image, summed over scales; IRNet's maps of classes at the image's size likewise. SEAM /
HFPL inference: the maps of the classes that the image is known to have, brought to its size, summed, and each class
normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from pgt.sizes import network_size, quarter_size

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


def pyramid(image: np.ndarray, scales: Sequence[float], step: int = 0) -> list[np.ndarray]:
    """image (H,W,3) uint8 -> itself at each scale (bicubic), (h,w,3) uint8 of network_size."""
    sizes = (network_size(image.shape[:2], scale, step) for scale in scales)
    return [image if size == image.shape[:2] else _resized(image, size) for size in sizes]


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def mirrored(pictures: Sequence[np.ndarray], device: torch.device | None = None) -> Tensor:
    """B pictures (h,w,3) uint8 of one size -> (2B,3,h,w) uint8 on the device: the pictures, then their mirrors."""
    batch = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
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


def multi_scale_saliency(
    net: CAMNet, images: Sequence[np.ndarray], scales: Sequence[float], power: float = 1.0, step: int = 0
) -> list[Tensor]:
    """B images (H,W,3) uint8 RGB that the network sees in one size -> B saliency maps (h,w) in [0,1] at a quarter of
    their own.

    Classes weigh by their probability to the power. As published (with step 0, see network_size), but without a map per
    class: resizing is linear, so the classes are summed on the network's own grid, and those that weigh nothing are
    left out.
    """
    scales = sorted(scales, reverse=True)  # the largest takes the memory that serves the others
    pyramids = [pyramid(image, scales, step) for image in images]
    return pyramid_saliency(net, pyramids, [image.shape[:2] for image in images], power)


@torch.inference_mode()
def pyramid_saliency(
    net: CAMNet, pyramids: Sequence[Sequence[np.ndarray]], sizes: Sequence[Sequence[int]], power: float = 1.0
) -> list[Tensor]:
    """multi_scale_saliency of images whose pyramids are made already; sizes: their own (H, W)."""
    n = len(pyramids)
    features = [net.features(mirrored(level, net.device)) for level in zip(*pyramids, strict=True)]
    logits = torch.stack([net.logits(f) for f in features]).mean(0).view(2, n, -1).mean(0)
    weights = net.probabilities(logits.float()) ** power
    return [_saliency(net, [f[i::n] for f in features], weights[i], quarter_size(sizes[i])) for i in range(n)]


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


def fuse_irn(maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """IRNet's way (make_cam.py, high_res), arguments and result as fuse_cams': positive values alone, brought to the
    next multiples of 16 pixels and cut to size, summed, each class over its highest + 1e-5."""
    height, width = size
    up = -(-height // 16) * 16, -(-width // 16) * 16
    resized = (interpolate(m[None].float().relu(), up, mode="bilinear", align_corners=False)[0] for m in maps)
    cam = sum(resized, torch.zeros((), device=maps[0].device))[:, :height, :width]
    return cam / (cam.amax((1, 2), keepdim=True) + _EPS)


def present_class_cam(
    net: MapNet, image: np.ndarray, keys: Tensor, scales: Sequence[float], size: Sequence[int] | None = None
) -> Tensor:
    """image (H,W,3) uint8 RGB, keys (P,) its foreground classes from 0, P > 0 -> (P,H,W) in [0,1], or of `size`.

    net: its maps before ReLU are taken, for SEAM the revised ones. SEAM's inference.
    """
    return pyramid_cams(net, [pyramid(image, scales)], [keys], [size or image.shape[:2]])[0]


@torch.inference_mode()
def pyramid_cams(
    net: MapNet,
    pyramids: Sequence[Sequence[np.ndarray]],
    keys: Sequence[Tensor],
    sizes: Sequence[Sequence[int]],
    fuse: Callable[[Sequence[Tensor], Sequence[int]], Tensor] = fuse_cams,
) -> list[Tensor]:
    """present_class_cam of B images whose pyramids, of one size, are made already; keys: of each, ascending. fuse:
    fuse_cams or fuse_irn."""
    n = len(pyramids)
    every = torch.cat([*keys]).unique() if n > 1 else keys[0]
    rows = [torch.searchsorted(every, own) for own in keys] if n > 1 else [slice(None)]
    maps = [net.cam(mirrored(level, net.device), every)[1] for level in zip(*pyramids, strict=True)]
    return [
        fuse([one for cam in maps for one in (cam[i][own], cam[n + i][own].flip(-1))], sizes[i])
        for i, own in enumerate(rows)
    ]
