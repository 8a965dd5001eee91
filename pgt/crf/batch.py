"""The CRF of a batch of images in torch operations: the lattice of lattice.py, sorted keys instead of hash tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy import ndarray as Array
from torch import Tensor

from pgt.crf import CLIP
from pgt.crf.lattice import FORBIDDEN, RANK_BITS, Lattice, elevation, packing

if TYPE_CHECKING:
    from pgt.crf import CRFParams


def dense_crf_torch(image: Tensor, prob: Tensor, params: CRFParams) -> Tensor:
    """dense_crf of a batch: mean_field_torch of images and probabilities (N, C, H, W) in [0, 1]."""
    return mean_field_torch(image, -prob.float().clamp(CLIP, 1.0).log(), params)


def mean_field_torch(image: Tensor, unary: Tensor, params: CRFParams) -> Tensor:
    """mean_field of a batch: images (N, 3, H, W), RGB of 0..255 in any dtype, and energies (N, C, H, W).

    -> marginals (N, C, H, W) float32 on the device of the tensors, equal to those of mean_field within 1e-4.
    A GPU adds in any order: there the last bits may change from run to run.  Raises ValueError as mean_field does.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.numel():
        raise ValueError(f"image is {tuple(image.shape)}: give RGB of shape (N, 3, H, W)")
    if unary.ndim != 4 or unary[:, 0].shape != image[:, 0].shape:
        raise ValueError(f"unary {tuple(unary.shape)} and image {tuple(image.shape)} do not meet: give (N, C, H, W)")
    if not unary.min() > -np.inf:
        raise ValueError("unary holds NaN or -inf: give energies, -log of probabilities")
    n, labels = unary.shape[:2]
    image = (image.flip(1) if params.feature_order.endswith("bgr") else image).float()
    x_axis = params.feature_order.index("x")
    gaussian = normalised(build_batch(image[:1, :0], params.gaussian_sxy, 1.0, 0), params.gaussian_compat)
    bilateral = build_batch(image, params.bilateral_sxy, params.bilateral_srgb, x_axis)
    bilateral = normalised(bilateral, params.bilateral_compat)
    score = -unary.float().clamp(max=float(FORBIDDEN)).flatten(2).transpose(1, 2)  # (N, HW, C)
    marginal = score.softmax(2)
    for _ in range(params.num_iter):
        side_by_side = marginal.transpose(0, 1).flatten(1)  # the position kernel is one for all images: (HW, N*C)
        message = filtered(gaussian, side_by_side).unflatten(1, (n, labels)).transpose(0, 1)
        message = message + filtered(bilateral, marginal.flatten(0, 1)).unflatten(0, (n, -1))
        marginal = (score + message).softmax(2)
    return marginal.transpose(1, 2).reshape(unary.shape)


def build_batch(image: Tensor, sxy: float, srgb: float, x_axis: int) -> Lattice:
    """As lattice.build: one lattice for all pixels of the images (N, channels, H, W) float32."""
    n, channels, height, width = image.shape
    scale = np.array([sxy, sxy] + [srgb] * channels, np.float32)
    low, stride, cells = packing(scale, (height, width), x_axis, n)
    keys, weight = _embed(image, scale, x_axis, low, stride, cells)
    if height * width % 4:  # as in lattice.build
        origin, _ = _embed(image.new_zeros(n, channels, 1, 1), scale, x_axis, low, stride, cells)
        keys = torch.cat([keys, origin])
    simplex_key, simplex = keys.unique(return_inverse=True)
    vertex_key, corner = _corner_keys(simplex_key, stride).unique(return_inverse=True)
    return Lattice(simplex[: len(weight)], corner, weight, _neighbours(vertex_key, stride))


def _embed(image: Tensor, scale: Array, x_axis: int, low: Array, stride: Array, cells: int) -> tuple[Tensor, Tensor]:
    """Simplex keys (N*H*W,) int64, barycentric weights (N*H*W, d+1)."""
    n, channels, height, width = image.shape
    d = 2 + channels
    x = torch.arange(width, device=image.device).expand(height, width)
    y = torch.arange(height, device=image.device)[:, None].expand(height, width)
    position = torch.stack([y, x] if x_axis else [x, y]).float().expand(n, 2, height, width)
    feature = torch.cat([position, image], 1).transpose(0, 1).reshape(d, -1)
    # a division by a number may become a multiplication by its inverse, one by a tensor does not
    step = feature / feature.new_tensor(scale)[:, None] * feature.new_tensor(elevation(scale))[:, None]
    elevated = feature.new_empty(d + 1, feature.shape[1])
    elevated[0] = 0
    for j in range(d, 0, -1):
        elevated[j] = elevated[0] - j * step[j - 1]
        elevated[0] += step[j - 1]
    up = feature.new_tensor(d + 1)
    cell = (elevated * (1 / up)).round()
    order = (elevated - cell * up).argsort(dim=0, descending=True, stable=True)
    places = torch.arange(d + 1, device=image.device)[:, None]
    rank = torch.empty_like(order).scatter_(0, order, places.expand_as(order))
    rank += cell.sum(0).long()
    turn = (rank < 0).long() - (rank > d).long()
    rank, cell = rank + turn * (d + 1), cell + turn
    offset = ((elevated - cell * up) * (1 / up)).sort(dim=0, descending=True).values
    weight = torch.cat([offset[d:] + (1 - offset[:1]), (offset[:-1] - offset[1:]).flip(0)]).T.contiguous()
    key = torch.arange(n, device=image.device).repeat_interleave(height * width) * cells
    for j in range(d):
        key += (cell[j].long() - int(low[j])) * int(stride[j])
    for j in range(d):
        key = (key << RANK_BITS) | rank[j]
    return key, weight


def _corner_keys(simplex_key: Tensor, stride: Array) -> Tensor:
    """Vertex keys (S, d+1), as in lattice."""
    d = len(stride) - 1
    fall = simplex_key.new_zeros(d + 1, len(simplex_key))
    for j in range(d - 1, -1, -1):
        rank = simplex_key & ((1 << RANK_BITS) - 1)
        fall.scatter_(0, rank[None], int(stride[j]) * (d + 1))
        simplex_key = simplex_key >> RANK_BITS
    steps = torch.cat([simplex_key[None] * (d + 1), 1 - fall[1:].flip(0)])
    return steps.cumsum(0).T


def _neighbours(vertex_key: Tensor, stride: Array) -> Tensor:
    """(d+1, M, 2), as in lattice; the keys are sorted."""
    m, size = len(vertex_key), len(stride)
    wrap = torch.where(vertex_key % size == 0, size - int(stride.sum()) * size, 0)
    index = torch.arange(m, device=vertex_key.device)
    neighbour = index.new_full((size, m + 1, 2), m)
    for j in range(size):
        target = vertex_key + (int(stride[j]) * size - 1) + wrap
        near = torch.searchsorted(vertex_key, target).clamp(max=m - 1)
        near = torch.where(vertex_key[near] == target, near, m)
        neighbour[j, :m, 0] = near
        neighbour[j, near, 1] = index  # absent ones write to row m, which is dropped
    return neighbour[:, :m]


def normalised(lattice: Lattice, compat: float) -> Lattice:
    """The lattice with weights that sweeps._normalise would give it."""
    alpha = 1 / (1 + 2.0 ** (1 - lattice.weight.shape[1]))
    norm = filtered(lattice, lattice.weight.new_ones(len(lattice.weight), 1)) * alpha
    return lattice._replace(weight=lattice.weight * (compat * alpha) ** 0.5 / (norm + 1e-20).sqrt())


def filtered(lattice: Lattice, value: Tensor) -> Tensor:
    """Splats, blurs and slices the channels of all pixels (P, C)."""
    vertices = value.new_zeros(lattice.neighbour.shape[1] + 1, value.shape[1])  # the last stands for absent ones
    corner = lattice.corner[lattice.simplex]
    for k in range(corner.shape[1]):
        vertices.index_add_(0, corner[:, k], lattice.weight[:, k, None] * value)
    for before, after in lattice.neighbour.transpose(1, 2):
        vertices[:-1] += 0.5 * (vertices[before] + vertices[after])
    result = torch.zeros_like(value)
    for k in range(corner.shape[1]):
        result += lattice.weight[:, k, None] * vertices[corner[:, k]]
    return result
