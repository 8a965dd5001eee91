"""Losses that let a saliency network learn from imprecise labels, and get better than they are; no mask is needed.

What helps is known from several works, whose forms are named below: an overlap loss instead of cross entropy (A2S-v3,
IJCAI 2024), images counting less where they disagree with all others (CSNet, TIP 2025), two sizes of an image that have
to agree (A2S-v2, CVPR 2023), and labels that move towards the network's predictions (A2S-v1, TCSVT 2023).

Needs nothing but torch. N images, maps (N,h,w) in [0,1]. All functions raise ValueError where shapes do not fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 0.1  # weight of a pixel of which the label says nothing (0.5)
_EPS = 1e-6


def soft_iou_loss(prob: Tensor, target: Tensor) -> Tensor:
    """prob, target (N,h,w) -> 1 - intersection over union of each image (N,), in [0, 1].

    Pixels weigh 0.1 + |2 target - 1|: where two labels disagree, and their mean is near 0.5, little is learned.
    """
    _check_alike(prob, target)
    weight = _LEAST + (2 * target - 1).abs()
    both = (weight * prob * target).sum((1, 2))
    either = (weight * (prob + target - prob * target)).sum((1, 2))
    return 1 - (both + _EPS) / (either + _EPS)


def small_loss_mean(losses: Tensor, sharpness: float) -> Tensor:
    """losses (N,) of images -> their mean, 0-d, weighted by softmax(-sharpness * losses): what most images agree on is
    learned, what an odd label says is not. The weights carry no gradient."""
    return (losses * (-sharpness * losses.detach()).softmax(0)).sum()


def self_training_loss(first: Tensor, second: Tensor, target: Tensor, sharpness: float = 4.0) -> dict[str, Tensor]:
    """Predictions of two sizes of the same images, brought to the grid of target (N,h,w) -> "loss", which is the sum of
    "iou", the small-loss mean of soft_iou_loss of both, and "views", their mean absolute difference."""
    _check_alike(first, second)
    iou = small_loss_mean(soft_iou_loss(first, target) + soft_iou_loss(second, target), sharpness / 2)
    views = (first - second).abs().mean()
    return {"loss": iou + views, "iou": iou, "views": views}


@torch.no_grad()
def refined(target: Tensor, prob: Tensor, keep: float = 0.6) -> Tensor:
    """target, prob (N,h,w) -> keep of the target and the rest of the prediction."""
    _check_alike(target, prob)
    return keep * target + (1 - keep) * prob


def _check_alike(first: Tensor, second: Tensor) -> None:
    if first.dim() != 3 or first.shape != second.shape:
        raise ValueError(f"maps {tuple(first.shape)} and {tuple(second.shape)} do not meet: give both as (N, h, w)")
