"""The permutohedral lattice of an image: which vertices each pixel lies between, and how vertices are joined."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy import ndarray as Array

# A simplex key packs the grid cell of a pixel and the ranks of its features, a vertex key the cell and the colour
# (the remainder class 0..d) of a lattice point.  One int64 each: comparing and hashing take one instruction.

COLOUR_MAX = 255.0
RANK_BITS = 3
COLUMNS = 64  # pixels that are worked on together; a multiple of LANES in sweeps
FORBIDDEN = np.float32(1e30)  # an infinite energy counts as this
ONE, ZERO = np.float32(1), np.float32(0)
# numpy's error model: a division that may raise keeps LLVM from vectorising
kernel = partial(njit, cache=True, nogil=True, error_model="numpy")


class Lattice(NamedTuple):
    """Permutohedral lattice of N pixels with d features: S simplices on M vertices; in batch.py tensors (int64)."""

    simplex: Any  # (N,) uint32, the simplex each pixel lies in
    corner: Any  # (S, d+1) uint32, its vertices
    weight: Any  # (N, d+1) float32, barycentric coordinates, later scaled by the normalisation
    neighbour: Any  # (d+1, M, 2) uint32, the vertices one step along each axis, M where there is none


def build(image: Array, sxy: float, srgb: float, x_axis: int) -> Lattice:
    """Lattice of the features (position / sxy, colour / srgb) of an image (H, W, 3), or of position for (H, W, 0)."""
    channels = image.shape[2]
    scale = np.array([sxy, sxy] + [srgb] * channels, np.float32)
    low, stride, _ = packing(scale, image.shape, x_axis)
    keys, weight = _embed(image, scale, x_axis, low, stride)
    simplex, simplex_key, _ = _number(keys)
    del keys  # the largest of what a large image needs
    if len(weight) % 4:
        # pydensecrf fills up its last group of four pixels with zero features, which the blur passes through
        origin, _ = _embed(np.zeros((1, 1, channels), np.uint8), scale, x_axis, low, stride)
        simplex_key = np.append(simplex_key, origin)
    corner_key = _corner_keys(simplex_key, stride)
    corner, vertex_key, slots = _number(corner_key.reshape(-1))
    return Lattice(simplex, corner.reshape(corner_key.shape), weight, _neighbours(vertex_key, slots, stride))


def elevation(scale: Array) -> Array:
    """Factor (d,) of each feature before it is lifted to the plane sum = 0 (Adams et al. 2010, section 3.1)."""
    d = len(scale)
    std = np.float32(np.sqrt(2.0 / 3.0) * (d + 1))
    return np.array([1 / np.sqrt((j + 2) * (j + 1)) * std for j in range(d)], np.float32)


def packing(scale: Array, shape: tuple[int, ...], x_axis: int, images: int = 1) -> tuple[Array, Array, int]:
    """How lattice coordinates are packed to a key -> lowest cell (d+1,), stride (d+1,), cells in an image.

    The stride of the last coordinate is 0: it follows from the others.
    """
    d = len(scale)
    largest = np.full(d, COLOUR_MAX)
    largest[x_axis], largest[1 - x_axis] = shape[1], shape[0]
    step = largest / scale * elevation(scale)
    least = np.append(0, -np.arange(1, d + 1) * step) / (d + 1)
    most = np.append(np.cumsum(step[::-1])[::-1], 0) / (d + 1)
    low = np.floor(least) - 2  # rounding, turning and one blur step away
    span = np.ceil(most) + 3 - low
    if np.prod(span[:d]) * images * 2.0 ** (RANK_BITS * d) >= 2.0**63:
        fine = f"standard deviations {scale.tolist()} are too fine for {images} image(s) of {tuple(shape[:2])}"
        raise ValueError(f"{fine}: a lattice point does not fit 63 bits; give larger ones or smaller images")
    stride = np.append(1, np.cumprod(span[:d])).astype(np.int64)
    cells = int(stride[d])
    stride[d] = 0
    return low.astype(np.int64), stride, cells


@kernel
def _embed(image: Array, scale: Array, x_axis: int, low: Array, stride: Array):
    """-> simplex keys (N,) int64, barycentric weights (N, d+1) float32."""
    height, width = image.shape[:2]
    d = scale.shape[0]
    keys = np.empty(height * width, np.int64)
    weight = np.empty((height * width, d + 1), np.float32)
    factor = _elevation_kernel(scale)
    elevated = np.zeros((d + 1, COLUMNS), np.float32)
    offset = np.zeros((d + 1, COLUMNS), np.float32)
    cell = np.zeros((d + 1, COLUMNS), np.float32)
    rank = np.zeros((d + 1, COLUMNS), np.int32)
    feature = np.zeros(COLUMNS, np.float32)
    for y in range(height):
        for x in range(0, width, COLUMNS):
            m = min(COLUMNS, width - x)
            first = y * width + x
            elevated[0] = ZERO
            for j in range(d, 0, -1):
                _feature(image, y, x, m, j - 1, x_axis, feature)
                _elevate(feature, scale[j - 1], factor[j - 1], np.float32(j), elevated[0], elevated[j])
            _find_simplex(elevated, offset, cell, rank)
            _pack(cell, rank, low, stride, keys[first : first + m])
            _sort_descending(offset)
            _barycentric(offset, weight[first : first + m])
    return keys, weight


_elevation_kernel = kernel(elevation)


@kernel
def _feature(image: Array, y: int, x: int, m: int, j: int, x_axis: int, feature: Array):
    for b in range(m):
        if j >= 2:
            feature[b] = np.float32(image[y, x + b, j - 2])
        else:
            feature[b] = np.float32(x + b if j == x_axis else y)


@kernel
def _elevate(feature: Array, scale: float, factor: float, position: np.float32, running: Array, elevated: Array):
    for b in range(COLUMNS):
        step = feature[b] / scale * factor
        elevated[b] = running[b] - position * step
        running[b] += step


@kernel
def _find_simplex(elevated: Array, offset: Array, cell: Array, rank: Array):
    """The nearest point of colour 0 (cell) and the order of the offsets from it (rank); offsets come out over d+1."""
    size = elevated.shape[0]
    up, turn_by = np.float32(size), np.int32(size)
    down = ONE / up
    total = np.zeros(COLUMNS, np.int32)
    for j in range(size):
        for b in range(COLUMNS):
            cell[j, b] = np.rint(down * elevated[j, b])
            offset[j, b] = elevated[j, b] - cell[j, b] * up
            total[b] += np.int32(cell[j, b])
    for j in range(size):
        for b in range(COLUMNS):
            rank[j, b] = total[b]
    for i in range(size):
        for j in range(i + 1, size):
            for b in range(COLUMNS):
                less = np.int32(offset[i, b] < offset[j, b])
                rank[i, b] += less
                rank[j, b] += np.int32(1) - less
    for j in range(size):  # a sum of cells off the plane turns the ranks round
        for b in range(COLUMNS):
            turn = np.int32(rank[j, b] < 0) - np.int32(rank[j, b] >= turn_by)
            rank[j, b] += turn * turn_by
            cell[j, b] += np.float32(turn)
            offset[j, b] = (elevated[j, b] - cell[j, b] * up) * down


@kernel
def _pack(cell: Array, rank: Array, low: Array, stride: Array, keys: Array):
    d = stride.shape[0] - 1
    keys[:] = 0
    for j in range(d):
        for b in range(keys.shape[0]):
            keys[b] += (np.int64(cell[j, b]) - low[j]) * stride[j]
    for j in range(d):
        for b in range(keys.shape[0]):
            keys[b] = (keys[b] << RANK_BITS) | np.int64(rank[j, b])


@kernel
def _sort_descending(offset: Array):
    for end in range(offset.shape[0] - 1, 0, -1):
        for j in range(end):
            for b in range(COLUMNS):
                u, v = offset[j, b], offset[j + 1, b]
                offset[j, b] = u if u > v else v
                offset[j + 1, b] = v if u > v else u


@kernel
def _barycentric(offset: Array, weight: Array):
    d = offset.shape[0] - 1
    for b in range(weight.shape[0]):
        weight[b, 0] = offset[d, b] + (ONE - offset[0, b])
        for k in range(1, d + 1):
            weight[b, k] = offset[d - k, b] - offset[d - k + 1, b]


@kernel
def _corner_keys(simplex_key: Array, stride: Array):
    """Vertex keys (S, d+1): from colour r-1 to r coordinates grow by 1, but the one of rank d+1-r falls by d."""
    d = stride.shape[0] - 1
    corner = np.empty((simplex_key.shape[0], d + 1), np.int64)
    fall = np.zeros(d + 1, np.int64)
    for i in range(simplex_key.shape[0]):
        key = simplex_key[i]
        fall[:] = 0
        for j in range(d - 1, -1, -1):
            fall[key & ((1 << RANK_BITS) - 1)] = stride[j] * (d + 1)
            key >>= RANK_BITS
        key *= d + 1
        corner[i, 0] = key
        for r in range(1, d + 1):
            key += 1 - fall[d + 1 - r]
            corner[i, r] = key
    return corner


@kernel
def _neighbours(vertex_key: Array, slots: tuple[Array, Array], stride: Array):
    """(d+1, M, 2): one step along axis j takes 1 from all coordinates and adds d+1 to the j-th."""
    m, d = vertex_key.shape[0], stride.shape[0] - 1
    neighbour = np.full((d + 1, m, 2), m, np.uint32)
    wrap = d + 1 - stride.sum() * (d + 1)  # colour 0 becomes colour d of the cell one lower in all coordinates
    slot_key, slot_id = slots
    for j in range(d + 1):
        for i in range(m):
            key = vertex_key[i]
            step = stride[j] * (d + 1) - 1 + (0 if key % (d + 1) else wrap)
            slot = _slot(slot_key, key + step)
            if slot_key[slot] >= 0:
                other = slot_id[slot]
                neighbour[j, i, 0] = other
                neighbour[j, other, 1] = i
    return neighbour


# ---- numbering keys: open addressing with Fibonacci hashing ----

_HASH = np.uint64(0x9E3779B97F4A7C15)
_HALF_WORD = np.uint64(32)


@kernel
def _slot(slot_key: Array, key: int):
    """The slot that holds the key, or the empty one where it belongs."""
    mask = slot_key.shape[0] - 1
    slot = np.int64((np.uint64(key) * _HASH) >> _HALF_WORD) & mask
    while slot_key[slot] != key and slot_key[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


@kernel
def _insert(keys: Array, start: int, slot_key: Array, slot_id: Array, count: int, ids: Array):
    """Numbers keys[start:] until the table is a third full -> (where it stopped, how many keys it holds)."""
    # tables are arguments, never reassigned in this loop: numba would count references at every key
    room = slot_key.shape[0] // 3
    for i in range(start, keys.shape[0]):
        slot = _slot(slot_key, keys[i])
        if slot_key[slot] < 0:
            if count == room:
                return i, count
            slot_key[slot] = keys[i]
            slot_id[slot] = count
            count += 1
        ids[i] = slot_id[slot]
    return keys.shape[0], count


@kernel
def _distinct(slot_key: Array, slot_id: Array, count: int):
    distinct = np.empty(count, np.int64)
    for slot in range(slot_key.shape[0]):
        if slot_key[slot] >= 0:
            distinct[slot_id[slot]] = slot_key[slot]
    return distinct


@kernel
def _number(keys: Array):
    """Keys (n,) >= 0 -> ids (n,) uint32 in order of first sight, distinct keys, hash table (keys, ids)."""
    size, done, count = 1 << 14, 0, 0
    ids = np.empty(keys.shape[0], np.uint32)
    distinct = np.empty(0, np.int64)
    while True:
        slot_key, slot_id = np.full(size, -1, np.int64), np.empty(size, np.uint32)
        _insert(distinct, 0, slot_key, slot_id, 0, np.empty(count, np.uint32))
        done, count = _insert(keys, done, slot_key, slot_id, count, ids)
        distinct = _distinct(slot_key, slot_id, count)
        if done == keys.shape[0]:
            return ids, distinct, (slot_key, slot_id)
        size *= 2
