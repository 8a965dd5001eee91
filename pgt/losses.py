"""Losses that turn an image classifier into a maker of class activation maps: SEAM, and HFPL's ISL and FSL.

SEAM: Wang et al., Self-supervised Equivariant Attention Mechanism, CVPR 2020. HFPL: Jonnarth et al., High-fidelity
Pseudo-labels for Boosting Weakly-Supervised Segmentation, WACV 2024 (arXiv 2304.02621).

Needs nothing but torch: a copy of this file alone lacks SEAMWeights, no more. To a network that gives `cam` (N,K,h,w)
before ReLU, for images `rgb` in 0..1 and multi-hot labels `label` (N,K), the two losses of HFPL are added by

    loss = multilabel_soft_margin(cam.mean((2, 3)), label)
    loss = 0.8 * loss + 0.2 * multilabel_soft_margin(importance_sampling(cam), label)
    score = with_background(max_norm(cam) * label[..., None, None])
    loss = loss + feature_similarity_loss(rgb, score)

N images, K foreground classes, C = K + 1 with background 0. Half precision is computed in single, autocast or not.
All functions raise ValueError where shapes or settings do not fit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd.function import once_differentiable

with contextlib.suppress(ImportError):  # a copy of this file alone does without
    from pgt.seam_weights import SEAMWeights

_EPS = 1e-5
_REACH = 5  # sigmas of the Gaussian that FSL's window keeps: 1.2e-6 of its weight lies outside
_TILE = 32  # columns that FSL compares with their window at a time


def multilabel_soft_margin(logits: Tensor, label: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy: -mean(l log sigmoid(x) + (1 - l) log sigmoid(-x)) -> 0-d.

    logits (N,K), or (N,K,n) for n pixels per class, which share the label of their image; label (N,K) multi-hot;
    pos_weight (K,) multiplies the terms of present classes.
    """
    _check_label(logits, label)
    logits, trailing = _float(logits), (1,) * (logits.ndim - 2)
    label = label.to(logits.dtype).view(*label.shape, *trailing).expand_as(logits)
    if pos_weight is not None:
        if pos_weight.shape != logits.shape[1:2]:
            raise ValueError(f"pos_weight is {tuple(pos_weight.shape)}, but there are {logits.shape[1]} classes.")
        pos_weight = pos_weight.to(logits.dtype).view(-1, *trailing)
    return F.binary_cross_entropy_with_logits(logits, label, pos_weight=pos_weight)


def pos_weight_for(labels: Tensor) -> Tensor:
    """labels (N,K) multi-hot of a whole data set -> (K,) absent / present images of each class.

    With it as pos_weight both halves of a class's loss weigh alike. 1 for a class that is never present.
    """
    if labels.ndim != 2 or not len(labels):
        raise ValueError(f"labels must be (N,K) with at least one image, not {tuple(labels.shape)}.")
    present = (labels > 0).sum(0)
    return torch.where(present > 0, (len(labels) - present) / present.clamp(min=1), 1.0)


def max_norm(cam: Tensor) -> Tensor:
    """Bring each map (...,h,w) to [0,1): x = ReLU(cam), then ReLU(x - min - 1e-5) / (max - min + 1e-5).

    Gradient also flows through min and max. Source: SEAM's code.
    """
    if cam.ndim < 2 or not cam.numel():
        raise ValueError(f"cam must be maps (...,h,w) with pixels, not {tuple(cam.shape)}.")
    cam = F.relu(_float(cam))
    flat = cam.flatten(-2)
    lowest, highest = (extreme.values[..., None, None] for extreme in (flat.min(-1), flat.max(-1)))
    return F.relu(cam - lowest - _EPS) / (highest - lowest + _EPS)


def with_background(cam: Tensor) -> Tensor:
    """cam (N,K,h,w) in [0,1] -> (N,C,h,w): a background 1 - max over the classes in front."""
    _check_maps("cam", cam)
    return torch.cat([1 - cam.amax(1, keepdim=True), cam], 1)


def max_onehot(cam: Tensor) -> Tensor:
    """cam (N,C,h,w) -> the same with 0 in every foreground channel but a pixel's greatest; background as it is."""
    _check_maps("cam", cam, channels=2)
    classes = cam[:, 1:]
    return torch.cat([cam[:, :1], classes * (classes == classes.amax(1, keepdim=True))], 1)


def adaptive_min_pooling_loss(cam: Tensor) -> Tensor:
    """Mean of ReLU over the lowest quarter of an image's pixels, of the maximum over classes; mean over images.

    cam (N,K,h,w) of the present classes, 0 elsewhere -> 0-d. It keeps part of each image background (SEAM's code).
    """
    _check_maps("cam", cam)
    highest = _float(cam).amax(1).flatten(1)
    return F.relu(highest.topk(max(highest.shape[1] // 4, 1), largest=False, sorted=False).values).mean()


def er_loss(cam1: Tensor, cam2: Tensor) -> Tensor:
    """Equivariant regularisation (SEAM, L_ER): mean |cam1 - cam2| of maps (N,K,h,w) of two views, brought to one size
    -> 0-d."""
    _check_alike(cam1, cam2)
    return (_float(cam1) - _float(cam2)).abs().mean()


def ecr_loss(cam: Tensor, cam_rv: Tensor, share: float = 0.2, channels: int | None = None) -> Tensor:
    """Equivariant cross regularisation: mean of the greatest `share` of an image's |max_onehot(cam) - cam_rv| -> 0-d.

    cam (N,C,h,w) in [0,1] of one view with its background, without gradient; cam_rv the same of the other view after
    the pixel correlation module. channels: how many there are in all, where both leave out some that are 0. Source:
    SEAM, L_ECR, and its code for the share.
    """
    _check_alike(cam, cam_rv)
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, not {share!r}.")
    difference = (max_onehot(_float(cam.detach())) - _float(cam_rv)).abs().flatten(1)
    count = max(int((channels or cam.shape[1]) * cam[0, 0].numel() * share), 1)
    greatest = difference.topk(min(count, difference.shape[1]), sorted=False).values
    return greatest.sum() / (len(cam) * count)


def sample_pixels(prob: Tensor, num_samples: int = 10, generator: Generator | None = None) -> Tensor:
    """prob (N,K,h,w) >= 0, not all 0 in a map -> (N,K,num_samples) flat pixel indices, drawn with replacement.

    A pixel's chance is its share of its map's sum (HFPL). The generator must live on the device of prob; None: torch's.
    """
    _check_maps("prob", prob)
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"num_samples must be an integer above 0, not {num_samples!r}.")
    maps = prob.detach().flatten(2).flatten(0, 1)
    index = torch.multinomial(_float(maps), num_samples, replacement=True, generator=generator)
    return index.view(*prob.shape[:2], num_samples)


def importance_sampling(logits: Tensor, num_samples: int = 10, generator: Generator | None = None) -> Tensor:
    """logits (N,K,h,w) -> (N,K,num_samples) of them, pixels drawn in proportion to sigmoid(logit) + 1e-5.

    ISL (HFPL) is the multilabel_soft_margin of the result. Gradient goes to the logits drawn, none to the chances.
    """
    _check_maps("logits", logits)
    logits = _float(logits)
    return logits.flatten(2).gather(2, sample_pixels(logits.sigmoid() + _EPS, num_samples, generator))


def feature_similarity_loss(
    image: Tensor,
    cam: Tensor,
    mu: float = 2.5,
    sigma: float | None = 5.0,
    max_dist: float | None = None,
    px: float = 1.0,
    py: float = 2.0,
) -> Tensor:
    """FSL: pixels near each other should agree where their colours do, and differ where their colours do -> 0-d.

        loss = -1/(N h w) sum_ij g_ij s_ij |y_i - y_j|^py / 2        over the ordered pairs of an image's pixels
        s = tanh(mu + log((d + 1e-5) / (1 - d + 1e-5)))              d = mean over channels of |x_i - x_j|^px, ^(1/px)
        g = exp(-|i - j|^2 / (2 sigma^2)) / (2 pi sigma^2)           or 1/(h w) where sigma is None

    image (N,c,H,W), colours x in 0..1 (values beyond are clipped), of any size: it is brought to that of the maps
    (bilinear, align_corners=True) and gets no gradient. cam (N,C,h,w), maps y in [0,1] with their background. mu > 0
    brings the colour distance from which pixels should differ closer to 0. Pairs further apart than max_dist pixels are
    left out.

    Pairs further apart than 5 sigma in rows or columns are left out too: value and gradient change by a few millionths.
    sigma None (infinite is the same) keeps all. Memory is linear in the pixels either way. No second derivative.
    ValueError also for an image in 0..255, mu beyond -40..40, sigma or max_dist not above 0, px or py below 1.
    Source: HFPL; max_dist, px and py from its code.
    """
    _check_maps("image", image)
    _check_maps("cam", cam)
    if len(image) != len(cam):
        raise ValueError(f"{len(image)} images but maps of {len(cam)}: give the maps of each image.")
    if not abs(mu) <= 40 or min(px, py) < 1 or any(v is not None and not v > 0 for v in (sigma, max_dist)):
        settings = f"mu={mu}, sigma={sigma}, max_dist={max_dist}, px={px}, py={py}"
        raise ValueError(f"{settings}: mu must be in -40..40, sigma and max_dist above 0 or None, px and py 1 or more.")
    cam = _float(cam)
    image = _resize(image.detach().to(cam.dtype), cam.shape[2:])
    if image.max() > 2:
        raise ValueError(f"image holds {float(image.max()):g}: give colours in 0..1, as in image / 255.")
    sigma = None if sigma is None or math.isinf(sigma) else sigma
    max_dist = math.inf if max_dist is None else max_dist
    return _FeatureSimilarity.apply(cam, image.clamp(0, 1), mu, sigma, max_dist, px, py)


def seam_loss(
    first: tuple[Tensor, Tensor, Tensor],
    second: tuple[Tensor, Tensor, Tensor],
    image: Tensor,
    label: Tensor,
    weights: SEAMWeights | None = None,
    generator: Generator | None = None,
    sizes: tuple[Sequence[int], Sequence[int]] | None = None,
) -> dict[str, Tensor]:
    """The loss of a training step of SEAM with ISL and FSL, and its parts.

    first, second: what the network gives for the images and for the same images made smaller (by 0.3 as published):
    cam and cam_rv (N,C,H,W) at the size of the view, and of the first the raw logits (N,C,h,w) that cam is made of.
    image (N,3,any size) in 0..1, seen by FSL alone; label (N,K) multi-hot; generator draws ISL's pixels.
    sizes: (H,W) of each view, where cam and cam_rv come at the size of the network's grid. The maps of present classes
    alone are then resized (bilinear, align_corners=True), which gives the same loss.

    Returns 0-d tensors: total = (cls1 + cls2) / 2 + (rvmin1 + rvmin2) / 2 + er + ecr1 + ecr2 + fsl_weight * fsl, its
    parts, and isl, which is within cls1. isl and fsl are absent where their weight is 0.
    Source: SEAM and HFPL; their published training step for details.
    """
    weights = weights or SEAMWeights()  # pyright: ignore[reportPossiblyUnboundVariable]
    (cam1, cam_rv1, logits1), (cam2, cam_rv2, *_) = ([_float(tensor) for tensor in view] for view in (first, second))
    for maps in (cam1, cam2, logits1):
        _check_label(maps[:, 1:], label)
    _check_alike(cam1, cam_rv1)
    _check_alike(cam2, cam_rv2)
    size1, size2 = sizes or (cam1.shape[2:], cam2.shape[2:])
    label = label.to(cam1.dtype)
    present = _present(label)
    weight = _take(F.pad(label, (1, 0), value=1)[..., None, None], present)

    parts, norm, norm_rv = {}, [], []
    for view, cam, cam_rv, size in (("1", cam1, cam_rv1, size1), ("2", cam2, cam_rv2, size2)):
        parts["cls" + view] = multilabel_soft_margin(_mean_resized(cam, size)[:, 1:], label)
        cam, cam_rv = (_resize(_take(maps, present), size) for maps in (cam, cam_rv))
        parts["rvmin" + view] = adaptive_min_pooling_loss((cam_rv * weight)[:, 1:])
        norm.append(_resize(max_norm(cam), size2) * weight)
        norm_rv.append(_resize(max_norm(cam_rv), size2) * weight)
    if weights.isl_weight:
        samples = importance_sampling(logits1[:, 1:], weights.isl_samples, generator)
        parts["isl"] = multilabel_soft_margin(samples, label)
        parts["cls1"] = (1 - weights.isl_weight) * parts["cls1"] + weights.isl_weight * parts["isl"]

    front1, front2 = (maps[:, 1:] for maps in norm)
    parts["er"] = er_loss(front1, front2) * (front1.shape[1] / label.shape[1])
    parts["ecr1"] = ecr_loss(with_background(front2), norm_rv[0], channels=cam1.shape[1])
    parts["ecr2"] = ecr_loss(with_background(front1), norm_rv[1], channels=cam1.shape[1])
    total = (parts["cls1"] + parts["cls2"]) / 2 + (parts["rvmin1"] + parts["rvmin2"]) / 2
    total = total + parts["er"] + parts["ecr1"] + parts["ecr2"]
    if weights.fsl_weight:
        score = with_background((max_norm(_take(logits1, present)) * weight)[:, 1:])
        parts["fsl"] = feature_similarity_loss(image, score, weights.fsl_mu, weights.fsl_sigma)
        total = total + weights.fsl_weight * parts["fsl"]
    return parts | {"total": total}


def generalized_cross_entropy(logits: Tensor, label: Tensor, q: float, ignore: int) -> Tensor:
    """Mean of (1 - p^q) / q over the pixels that are not `ignore`, p the probability of their label; 0 without pixels.

    logits (N,C,H,W), label (N,H,W) int64. q towards 0 gives cross entropy; q 1 gives the mean absolute error, which
    wrong labels trouble least. Source: Zhang & Sabuncu, NeurIPS 2018, equation 6.
    """
    sure = label != ignore
    log_p = -F.cross_entropy(logits, label, ignore_index=ignore, reduction="none")
    return (((1 - (q * log_p).exp()) / q) * sure).sum() / sure.sum().clamp(min=1)


def _present(label: Tensor) -> Tensor:
    """label (N,K) -> (N,1+P) channels: the background, then each image's present classes.

    P is the greatest number in an image; absent classes fill up the others. All other maps of SEAM are 0: left out,
    they cost nothing.
    """
    most = max(int((label > 0).sum(1).max()), 1)
    return F.pad(label.argsort(dim=1, descending=True, stable=True)[:, :most] + 1, (1, 0))


def _take(maps: Tensor, channels: Tensor) -> Tensor:
    """maps (N,C,h,w), channels (N,P) -> (N,P,h,w)."""
    index = channels + torch.arange(len(maps), device=maps.device)[:, None] * maps.shape[1]
    return maps.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, channels.shape)


def _mean_resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Spatial mean (N,C) of _resize(maps, size), as a weighted mean of the maps (N,C,h,w)."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps.mean((2, 3))
    rows, columns = (
        _resize(torch.eye(old, dtype=maps.dtype, device=maps.device)[None, None], (new, old)).mean((0, 1, 2))
        for old, new in zip(maps.shape[2:], size, strict=True)
    )
    return (maps * (rows[:, None] * columns)).sum((2, 3))


class _FeatureSimilarity(torch.autograd.Function):
    """The gradient comes with the value, so that nothing the size of the pairs has to be kept for it."""

    @staticmethod
    def forward(
        ctx: Any, cam: Tensor, image: Tensor, mu: float, sigma: float | None, max_dist: float, px: float, py: float
    ) -> Tensor:
        with torch.autocast(cam.device.type, enabled=False):
            weights = _pair_weights(image, mu, sigma, max_dist, px)
            value, gradient = _quadratic(cam, weights) if py == 2 else _power(cam, weights, py)
        factor = -1 / (len(cam) * cam[0, 0].numel())
        ctx.save_for_backward(gradient * factor)
        return value * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], *(None,) * 6


def _pair_weights(
    image: Tensor, mu: float, sigma: float | None, max_dist: float, px: float
) -> Iterator[tuple[int, slice, slice, Tensor]]:
    """g_ij s_ij of an image (N,c,h,w) in parts: (row step, columns, their window, weights (N,rows,columns,window)).

    Weight [n,r,i,j] is that of columns[i] of row r and window[j] of row r + step: each unordered pair counts once
    (within a row either order counts half). tanh(mu + log r) is 1 - 2 / (1 + (e^mu r)^2): no logarithm to take.
    """
    _, channels, height, width = image.shape
    reach = int(min(max_dist, math.inf if sigma is None else math.ceil(_REACH * sigma), max(height, width)))
    column = torch.arange(width, dtype=image.dtype, device=image.device)
    for start in range(0, width, _TILE):
        columns = slice(start, min(start + _TILE, width))
        window = slice(max(start - reach, 0), min(columns.stop + reach, width))
        for step in range(min(reach, height - 1) + 1):
            squared = (column[columns, None] - column[window]) ** 2 + step**2
            if sigma is None:
                near = torch.full_like(squared, 1 / (height * width))
            else:
                near = torch.exp(squared / (-2 * sigma**2)) / (2 * math.pi * sigma**2)
            near *= (squared <= max_dist**2) * (1 if step else 0.5)
            upper, lower = image[:, :, : height - step, columns, None], image[:, :, step:, None, window]
            distance = sum(((upper[:, c] - lower[:, c]).abs_().pow_(px) for c in range(channels)), image.new_zeros(()))
            distance = distance.div_(channels).pow_(1 / px)
            odds = distance.neg_().add_(1 + _EPS).reciprocal_().mul_(1 + 2 * _EPS).sub_(1)  # (d + e) / (1 - d + e)
            unlike = odds.mul_(math.exp(mu)).square_().add_(1).reciprocal_()
            yield step, columns, window, torch.addcmul(near, unlike, near, value=-2, out=unlike)


def _quadratic(cam: Tensor, weights: Iterator) -> tuple[Tensor, Tensor]:
    """sum over pairs of w |y_i - y_j|^2 = y'(D - W)y for cam (N,C,h,w), D the row sums of W, and its gradient.

    A channel of ones, taken along, gives D. Differences do not see the mean of y; without it less cancels.
    """
    height = cam.shape[2]
    centred = (cam - cam.mean((2, 3), keepdim=True)).movedim(1, -1)
    planes = F.pad(centred, (0, 1), value=1)  # (N,h,w,C+1)
    filtered = torch.zeros_like(planes)
    for step, columns, window, weight in weights:
        filtered[:, : height - step, columns] += weight @ planes[:, step:, window]
        filtered[:, step:, window] += weight.mT @ planes[:, : height - step, columns]
    gradient = 2 * (filtered[..., -1:] * centred - filtered[..., :-1])
    return (gradient * centred).sum() / 2, gradient.movedim(-1, 1)


def _power(cam: Tensor, weights: Iterator, power: float) -> tuple[Tensor, Tensor]:
    """sum over pairs of w sum_c |y_ic - y_jc|^power for cam (N,C,h,w), and its gradient, difference by difference."""
    height = cam.shape[2]
    value, gradient = cam.new_zeros(()), torch.zeros_like(cam)
    for step, columns, window, weight in weights:
        for c in range(cam.shape[1]):
            difference = cam[:, c, : height - step, columns, None] - cam[:, c, step:, None, window]
            pull = weight * difference.abs().pow_(power - 1) * difference.sign()
            value += (pull * difference).sum()
            gradient[:, c, : height - step, columns] += power * pull.sum(-1)
            gradient[:, c, step:, window] -= power * pull.sum(-2)
    return value, gradient


def _float(tensor: Tensor) -> Tensor:
    """At least single precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    same = tuple(maps.shape[2:]) == tuple(size)
    return maps if same else F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def _check_maps(name: str, maps: Tensor, channels: int = 1) -> None:
    if maps.ndim != 4 or maps.shape[1] < channels or not maps.numel():
        raise ValueError(f"{name} must be (N,{channels} or more,h,w) with pixels, not {tuple(maps.shape)}.")


def _check_alike(first: Tensor, second: Tensor) -> None:
    _check_maps("cam", first)
    if first.shape != second.shape:
        raise ValueError(f"the maps are {tuple(first.shape)} and {tuple(second.shape)}: bring them to one shape.")


def _check_label(values: Tensor, label: Tensor) -> None:
    if label.ndim != 2 or not label.numel() or values.shape[:2] != label.shape:
        raise ValueError(f"label is {tuple(label.shape)}, predictions {tuple(values.shape)}: both start with (N,K).")
