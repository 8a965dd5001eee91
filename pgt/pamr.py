"""Pixel-adaptive mask refinement (PAMR): a soft mask that follows the picture's edges, without learning.

Araslanov & Roth, Single-Stage Semantic Segmentation from Image Labels, CVPR 2020, section 3.3.

Each pixel x repeatedly takes the mean of its neighbours j (8 at each dilation), weighted by a softmax over j
of -|I_x - I_j| / (1e-8 + 0.1 std_x), averaged over the colours. Colours count in units of the local std, so
an image of 0..255 and a normalised one give the same mask.

pamr() takes tensors, pamr_numpy() arrays (and needs no torch). The kernels do not hold the GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy import ndarray as Array

if TYPE_CHECKING:
    from torch import Tensor

DILATIONS = (1, 2, 4, 8, 12, 24)
NUM_ITER = 10
_RING = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def pamr(image: Tensor, mask: Tensor, dilations: Sequence[int] = DILATIONS, num_iter: int = NUM_ITER) -> Tensor:
    """Refine soft masks so that they follow the edges of their images.

    image (N,3,h,w) and mask (N,C,hm,wm) are float tensors on one device, in any units; a mask of another size is first
    resized to its image (bilinear, align_corners=True, as published). Returns (N,C,h,w) in the dtype of the mask, each
    value within the range of its mask channel, without gradient. float32 tensors on the CPU run in the compiled
    kernels, all others in plain torch; both agree to 1e-5. Memory: 8 * len(dilations) floats per pixel.

    ValueError: shapes that do not fit, no pixels, NaN or infinite values, dilations that are not positive
    integers, num_iter below 0, tensors that are not floating point or lie on two devices.
    """
    import torch

    if not (image.is_floating_point() and mask.is_floating_point()):
        raise ValueError(f"image is {image.dtype}, mask {mask.dtype}: make both floating point with .float()")
    if image.device != mask.device:
        raise ValueError(f"the image is on {image.device}, the mask on {mask.device}: move one to the other")
    _check(image, mask, 4, dilations, num_iter, torch.isfinite)
    if len(image) != len(mask):
        raise ValueError(f"{len(image)} images but masks for {len(mask)}: give the masks of each image")
    offsets = _offsets(dilations)
    with torch.no_grad():
        if not (mask.is_cpu and image.dtype == mask.dtype == torch.float32):
            return _refine_torch(image, mask, offsets, num_iter)
        pairs = zip(image.numpy(force=True), mask.numpy(force=True), strict=True)
        return torch.from_numpy(np.stack([_refine(*pair, offsets, num_iter) for pair in pairs]))


def pamr_numpy(image: Array, mask: Array, dilations: Sequence[int] = DILATIONS, num_iter: int = NUM_ITER) -> Array:
    """pamr() of one image (3,h,w) and masks (C,hm,wm), any real dtype, without torch -> (C,h,w) float32.

    ValueError: as pamr().
    """
    image, mask = np.asarray(image, np.float32), np.array(mask, np.float32)
    _check(image, mask, 3, dilations, num_iter, np.isfinite)
    return _refine(image, mask, _offsets(dilations), num_iter)


def refine_saliency(
    image: Array, saliency: Array, dilations: Sequence[int] = DILATIONS, num_iter: int = NUM_ITER
) -> Array:
    """A saliency map at the size of its image, refined by PAMR at a quarter of it: the pixel-wise WSOD label.

    image (H,W,3) uint8 RGB, saliency (h,w) >= 0 of any size -> (H,W) float32 in [0,1], scaled so that its
    peak at the quarter size is 1; an all-zero map stays zero. ValueError: shapes or values that do not fit,
    and as pamr().
    Source: generatePGT make_cam: image bilinear to (H//4, W//4), PAMR, / (max + 1e-5), bilinear to (H, W).
    """
    image, saliency = np.asarray(image), np.asarray(saliency)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image must be (H,W,3) uint8 RGB with pixels, not {image.shape} {image.dtype}")
    if saliency.ndim != 2 or (saliency < 0).any():
        raise ValueError(f"saliency must be one map (h,w) without negative values, not {saliency.shape}")
    height, width = image.shape[:2]
    quarter = max(height // 4, 1), max(width // 4, 1)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    refined = pamr_numpy(_resize(planes, quarter), saliency[None], dilations, num_iter)
    return _resize(refined / (refined.max() + np.float32(1e-5)), (height, width))[0]


def refine_cams(image: Array, cams: Array, dilations: Sequence[int] = DILATIONS, num_iter: int = NUM_ITER) -> Array:
    """The maps (P,H,W) in [0,1] of an image's classes, refined by PAMR on the image (h,w,3) uint8 RGB, which may be
    smaller -> (P,H,W) float32, each stretched to 0..1; a map that is flat is 0. ValueError: as pamr()."""
    if not len(cams):
        return np.zeros(cams.shape, np.float32)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    refined = pamr_numpy(planes, _resize(cams.astype(np.float32), planes.shape[1:]), dilations, num_iter)
    lowest, highest = refined.min((1, 2), keepdims=True), refined.max((1, 2), keepdims=True)
    return _resize((refined - lowest) / np.maximum(highest - lowest, np.float32(1e-3)), cams.shape[1:])


def refine_saliency_torch(
    image: Tensor, saliency: Tensor, dilations: Sequence[int] = DILATIONS, num_iter: int = NUM_ITER
) -> Tensor:
    """refine_saliency of a batch: images (N,3,H,W), RGB of 0..255 in any dtype, and saliency maps (N,h,w) >= 0, on one
    device -> (N,H,W) float32 there, equal within 1e-5. ValueError: as pamr()."""
    import torch.nn.functional as F

    height, width = image.shape[2:]
    quarter = max(height // 4, 1), max(width // 4, 1)
    small = F.interpolate(image.float(), quarter, mode="bilinear", align_corners=False)
    refined = pamr(small, saliency.float()[:, None], dilations, num_iter)
    refined = refined / (refined.amax((1, 2, 3), keepdim=True) + 1e-5)
    return F.interpolate(refined, (height, width), mode="bilinear", align_corners=False)[:, 0]


def _check(
    image: Any, mask: Any, ndim: int, dilations: Sequence[int], num_iter: int, isfinite: Callable[[Any], Any]
) -> None:
    """Refuse shapes and settings that pamr() cannot work with; image and mask are arrays or tensors."""
    batch = "N," if ndim == 4 else ""
    if image.ndim != ndim or image.shape[-3] != 3:
        raise ValueError(f"image must be ({batch}3,h,w), RGB planes first, not {tuple(image.shape)}")
    if mask.ndim != ndim:
        raise ValueError(f"mask must be ({batch}C,h,w), not {tuple(mask.shape)}")
    if 0 in (*image.shape, *mask.shape):
        raise ValueError(f"image {tuple(image.shape)} or mask {tuple(mask.shape)} is empty: leave it out")
    integers = all(isinstance(d, (int, np.integer)) for d in dilations)
    if len(dilations) == 0 or not integers or min(dilations) < 1:
        raise ValueError(f"dilations must be one or more positive integers, not {dilations!r}")
    if not isinstance(num_iter, (int, np.integer)) or num_iter < 0:
        raise ValueError(f"num_iter must be an integer of 0 or more, not {num_iter!r}")
    if not (isfinite(image).all() and isfinite(mask).all()):
        raise ValueError("image or mask holds NaN or infinite values: mend the step that made them")


def _offsets(dilations: Sequence[int]) -> Array:
    """(J,2) steps (dy, dx) from a pixel to its neighbours, J = 8 * len(dilations)."""
    return np.concatenate([d * np.array(_RING) for d in dilations])


@njit(cache=True, nogil=True)
def _bandwidth(first: Any, second: Any, num_neighbours: int) -> Any:
    """1e-8 + 0.1 std of a pixel's surroundings, from sums of (neighbour - centre) and of its square.

    The centre counts once for each dilation (9 values each); the std is unbiased. Differences to the centre keep the
    one-pass formula well conditioned: those of the centre are 0, so first^2 / n is at most 8/9 of second.
    """
    n = num_neighbours + num_neighbours // 8
    return 1e-8 + 0.1 * ((second - first * first / n) / (n - 1)) ** 0.5


@njit(cache=True, nogil=True)
def _affinity(padded: Array, offsets: Array, pad: int):
    """Logits (h,J,w) float32 of an image (3,h+2*pad,w+2*pad): the J*w values of a row lie together."""
    channels, height, width = padded.shape[0], padded.shape[1] - 2 * pad, padded.shape[2] - 2 * pad
    logits = np.zeros((height, len(offsets), width), np.float32)
    first, second = np.empty(width, np.float32), np.empty(width, np.float32)
    for y in range(height):
        for c in range(channels):
            centre = padded[c, y + pad, pad : pad + width]
            first[:] = 0
            second[:] = 0
            for dy, dx in offsets:
                neighbour = padded[c, y + pad + dy, pad + dx : pad + dx + width]
                for x in range(width):
                    difference = neighbour[x] - centre[x]
                    first[x] += difference
                    second[x] += difference * difference
            scale = first  # no longer needed
            for x in range(width):
                scale[x] = -1 / (channels * _bandwidth(first[x], second[x], len(offsets)))
            for j, (dy, dx) in enumerate(offsets):
                neighbour = padded[c, y + pad + dy, pad + dx : pad + dx + width]
                for x in range(width):
                    logits[y, j, x] += abs(neighbour[x] - centre[x]) * scale[x]
    return logits


@njit(cache=True, nogil=True)
def _propagate(weights: Array, total: Array, padded: Array, offsets: Array, pad: int):
    """One iteration: weights (h,J,w), their sum (h,w), mask (C,h+2*pad,w+2*pad) -> (C,h,w)."""
    height, _, width = weights.shape
    refined = np.zeros((len(padded), height, width), np.float32)
    for y in range(height):
        for c in range(len(padded)):
            for j, (dy, dx) in enumerate(offsets):
                neighbour = padded[c, y + pad + dy, pad + dx : pad + dx + width]
                for x in range(width):
                    refined[c, y, x] += weights[y, j, x] * neighbour[x]
            for x in range(width):
                refined[c, y, x] /= total[y, x]
    return refined


def _refine(image: Array, mask: Array, offsets: Array, num_iter: int) -> Array:
    """pamr() of one image on the CPU, float32.

    The softmax needs no shift: the greatest logit of a pixel is above -32, as the least difference is at most
    the root mean square one, and that at most 3.2 std. Its sum is taken in the order in which neighbours are
    added up, so that a mask of ones stays exactly that.
    """
    pad = int(offsets.max())
    weights = _affinity(_pad_edge(image, pad), offsets, pad)
    np.exp(weights, out=weights)
    total = weights.sum(axis=1)
    mask = _resize(mask, image.shape[1:], align_corners=True)
    for _ in range(num_iter):
        mask = _propagate(weights, total, _pad_edge(mask, pad), offsets, pad)
    return mask


def _refine_torch(image: Tensor, mask: Tensor, offsets: Array, num_iter: int) -> Tensor:
    """pamr() on any device, in the dtype of the mask but never below float32; the same sums as _refine()."""
    import torch
    import torch.nn.functional as F

    pad = int(offsets.max())
    height, width = image.shape[2:]

    def neighbours(planes: Tensor) -> list[Tensor]:
        padded = F.pad(planes, (pad,) * 4, mode="replicate")
        return [padded[:, :, pad + dy : pad + dy + height, pad + dx : pad + dx + width] for dy, dx in offsets]

    dtype = torch.promote_types(mask.dtype, torch.float32)
    image = image.to(dtype)
    first, second = torch.zeros_like(image), torch.zeros_like(image)
    for neighbour in neighbours(image):
        difference = neighbour - image
        first += difference
        second.addcmul_(difference, difference)
    scale = -1 / _bandwidth.py_func(first, second, len(offsets))
    weights = [((neighbour - image).abs_() * scale).mean(1, keepdim=True).exp_() for neighbour in neighbours(image)]
    total = sum(weights)  # (N,1,h,w)
    refined = F.interpolate(mask.to(dtype), (height, width), mode="bilinear", align_corners=True)
    for _ in range(num_iter):
        previous, refined = refined, torch.zeros_like(refined)
        for weight, neighbour in zip(weights, neighbours(previous), strict=True):
            refined.addcmul_(weight, neighbour)
        refined /= total
    return refined.to(mask.dtype)


def _pad_edge(planes: Array, pad: int) -> Array:
    """Replicate padding of (C,h,w). In C order: np.pad would keep Fortran order, another kernel signature."""
    return np.pad(np.ascontiguousarray(planes), ((0, 0), (pad, pad), (pad, pad)), mode="edge")


def _resize(planes: Array, size: tuple[int, int], align_corners: bool = False) -> Array:
    """Bilinear (C,h,w) float32 -> (C,*size), the sampling of torch's interpolate (no antialiasing)."""
    for axis, new in ((1, size[0]), (2, size[1])):
        old = planes.shape[axis]
        if old == new:
            continue
        if align_corners:
            source = np.arange(new) * ((old - 1) / max(new - 1, 1))
        else:
            source = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
        low = np.minimum(source.astype(np.intp), old - 1)
        share = np.float32(source - low).reshape((-1, 1) if axis == 1 else (1, -1))
        near, far = planes.take(low, axis), planes.take(np.minimum(low + 1, old - 1), axis)
        planes = near + share * (far - near)
    return planes
