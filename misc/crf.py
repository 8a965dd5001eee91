"""Fully connected CRF: mean field on a permutohedral lattice, pydensecrf's results without its compiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

COLOUR_MAX = 255.0
HASH = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: Fibonacci hashing
ONE, ZERO = np.float32(1), np.float32(0)
LANES = 8


# ---- eight floats at once: explicit, because whether LLVM would vectorise short channel loops is luck ----


class _Float32x8(types.Type):
    def __init__(self):
        super().__init__("Float32x8")


_vector = _Float32x8()
_IR = ir.VectorType(ir.FloatType(), LANES)


@register_model(_Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _IR)


def _pointer(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index], inbounds=True), _IR.as_pointer())


@intrinsic
def _load(_typing, array, index):
    def code(context, builder, signature, args):
        return builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]), align=4)

    return _vector(array, types.intp), code


@intrinsic
def _store(_typing, array, index, vector):
    def code(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, _vector), code


@intrinsic
def _madd(_typing, vector, scalar, other):
    """vector + scalar * other"""

    def code(context, builder, signature, args):
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        one = builder.insert_element(ir.Constant(_IR, ir.Undefined), args[1], ir.Constant(ir.IntType(32), 0))
        scalar = builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), lanes)
        product = builder.fmul(scalar, args[2], flags=("contract",))
        return builder.fadd(args[0], product, flags=("contract",))

    return _vector(_vector, types.float32, _vector), code


def _kernel(function=None, **options):
    return njit(cache=True, nogil=True, error_model="numpy", **options)


class Lattice(NamedTuple):
    simplex: np.ndarray  # (N,) the simplex that holds each pixel
    corner: np.ndarray  # (S, d+1) vertices of each simplex
    weight: np.ndarray  # (N, d+1) barycentric weights
    neighbour: np.ndarray  # (d+1, M, 2) vertices one step along each axis, M where there is none


@_kernel()
def _embed(colour, height, width, scale, x_axis, low, stride):
    d, n = scale.shape[0], height * width
    block = 128
    keys = np.empty(n, np.int64)
    weight = np.empty((n, d + 1), np.float32)
    std = np.float32(np.sqrt(2.0 / 3.0) * (d + 1))
    factor = np.empty(d, np.float32)
    for j in range(d):
        factor[j] = 1.0 / np.sqrt((j + 2.0) * (j + 1.0)) * std
    up = np.float32(d + 1)
    down = ONE / up
    elevated = np.empty((d + 1, block), np.float32)
    offset = np.empty((d + 1, block), np.float32)
    cell = np.empty((d + 1, block), np.float32)
    rank = np.empty((d + 1, block), np.int32)
    running = np.empty(block, np.float32)
    total = np.empty(block, np.int32)
    key = np.empty(block, np.int64)
    for y in range(height):
        for x0 in range(0, width, block):
            m = min(block, width - x0)
            first = y * width + x0
            running[:m] = ZERO
            total[:m] = 0
            key[:m] = 0
            for j in range(d, 0, -1):
                a, s, f = np.float32(j), scale[j - 1], factor[j - 1]
                for b in range(m):
                    if j > 2:
                        value = np.float32(colour[first + b, j - 3])
                    elif j - 1 == x_axis:
                        value = np.float32(x0 + b)
                    else:
                        value = np.float32(y)
                    step = value / s * f
                    elevated[j, b] = running[b] - a * step
                    running[b] += step
            elevated[0, :m] = running[:m]
            for j in range(d + 1):
                for b in range(m):
                    c = np.rint(down * elevated[j, b])
                    cell[j, b] = c
                    offset[j, b] = elevated[j, b] - c * up
                    total[b] += np.int32(c)
                    rank[j, b] = 0
            for i in range(d):
                for j in range(i + 1, d + 1):
                    for b in range(m):
                        less = np.int32(offset[i, b] < offset[j, b])
                        rank[i, b] += less
                        rank[j, b] += np.int32(1) - less
            for j in range(d + 1):
                for b in range(m):
                    r = rank[j, b] + total[b]
                    turn = np.int32(r < 0) - np.int32(r > d)
                    c = cell[j, b] + np.float32(turn)
                    key[b] += (np.int64(c) - low[j]) * stride[j]
                    rank[j, b] = r + turn * np.int32(d + 1)
                    offset[j, b] = (elevated[j, b] - c * up) * down
            for j in range(d + 1):
                for b in range(m):
                    key[b] = (key[b] << 3) | np.int64(rank[j, b])
            keys[first : first + m] = key[:m]
            for i in range(d, 0, -1):
                for j in range(i):
                    for b in range(m):
                        u, v = offset[j, b], offset[j + 1, b]
                        offset[j, b] = u if u > v else v
                        offset[j + 1, b] = v if u > v else u
            for b in range(m):
                weight[first + b, 0] = offset[d, b] + (ONE - offset[0, b])
                for k in range(1, d + 1):
                    weight[first + b, k] = offset[d - k, b] - offset[d - k + 1, b]
    return keys, weight


@_kernel()
def _slot(slot_key, key):
    mask = slot_key.shape[0] - 1
    slot = np.int64((np.uint64(key) * HASH) >> np.uint64(32)) & mask
    while slot_key[slot] != key and slot_key[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


@_kernel()
def _insert(keys, start, slot_key, slot_id, count, ids):
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


@_kernel()
def _unique(slot_key, slot_id, count):
    unique = np.empty(count, np.int64)
    for slot in range(slot_key.shape[0]):
        if slot_key[slot] >= 0:
            unique[slot_id[slot]] = slot_key[slot]
    return unique


@_kernel()
def _number(keys):
    """-> ids (n,), unique keys in the order in which they are first seen, hash table"""
    size, done, count = 1 << 12, 0, 0
    ids = np.empty(keys.shape[0], np.int32)
    unique = np.empty(0, np.int64)
    while True:
        slot_key, slot_id = np.full(size, -1, np.int64), np.empty(size, np.int32)
        _insert(unique, 0, slot_key, slot_id, 0, np.empty(count, np.int32))
        done, count = _insert(keys, done, slot_key, slot_id, count, ids)
        unique = _unique(slot_key, slot_id, count)
        if done == keys.shape[0]:
            return ids, unique, slot_key, slot_id
        size *= 4


@_kernel()
def _corners(simplex, stride):
    d = stride.shape[0] - 1
    corner = np.empty((simplex.shape[0], d + 1), np.int64)
    step = np.empty(d + 1, np.int64)
    for i in range(simplex.shape[0]):
        key = simplex[i]
        for j in range(d, -1, -1):
            step[key & 7] = stride[j] * (d + 1)
            key >>= 3
        key *= d + 1
        corner[i, 0] = key
        for r in range(1, d + 1):
            key += 1 - step[d + 1 - r]
            corner[i, r] = key
    return corner


@_kernel()
def _neighbours(vertex, slot_key, slot_id, stride):
    m, d = vertex.shape[0], stride.shape[0] - 1
    neighbour = np.full((d + 1, m, 2), m, np.int32)
    whole = stride.sum() * (d + 1)
    for j in range(d + 1):
        step = stride[j] * (d + 1)
        for i in range(m):
            key = vertex[i] + step
            slot = _slot(slot_key, key - 1 if vertex[i] % (d + 1) else key + d - whole)
            if slot_key[slot] >= 0:
                other = slot_id[slot]
                neighbour[j, i, 0] = other
                neighbour[j, other, 1] = i
    return neighbour


def _bounds(scale, high):
    d = len(scale)
    step = np.asarray(high) / scale / np.sqrt([(j + 2) * (j + 1) for j in range(d)]) * np.sqrt(2 / 3) * (d + 1)
    least = np.append(0, -np.arange(1, d + 1) * step)
    most = np.append([step[j:].sum() for j in range(d)], 0)
    low = np.floor(least / (d + 1)).astype(np.int64) - 2
    span = np.ceil(most / (d + 1)).astype(np.int64) + 3 - low
    stride = np.append(np.cumprod(np.append(1, span[: d - 1])), 0)
    if np.prod(span[:d].astype(float)) * (d + 1) * 8.0 ** (d + 1) >= 2**63:
        raise ValueError("fine")
    return low, stride


def _build(colour, height, width, sxy, srgb, x_axis):
    d = 2 + colour.shape[1]
    scale = np.array([sxy, sxy] + [srgb] * (d - 2), np.float32)
    high = [COLOUR_MAX] * d
    high[x_axis], high[1 - x_axis] = width, height
    low, stride = _bounds(scale, high)
    keys, weight = _embed(colour, height, width, scale, x_axis, low, stride)
    simplex, simplex_key, _, _ = _number(keys)
    if len(keys) % 4:
        origin, _ = _embed(np.zeros((1, d - 2), np.uint8), 1, 1, scale, x_axis, low, stride)
        simplex_key = np.append(simplex_key, origin)
    corner, vertex_key, slot_key, slot_id = _number(_corners(simplex_key, stride).reshape(-1))
    neighbour = _neighbours(vertex_key, slot_key, slot_id, stride)
    return Lattice(simplex, corner.reshape(-1, d + 1), weight, neighbour)


@_kernel()
def _exp(x):
    n = np.rint(x * np.float32(1.44269504))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * power if x > np.float32(-60) else ZERO


@_kernel()
def _blur1(values, new, neighbour):
    for axis in range(neighbour.shape[0]):
        for i in range(neighbour.shape[1]):
            near = values[neighbour[axis, i, 0]] + values[neighbour[axis, i, 1]]
            new[i] = values[i] + np.float32(0.5) * near
        values, new = new, values
    return values, new


@_kernel()
def _normalise(lattice, strength):
    n, k = lattice.weight.shape
    m = lattice.neighbour.shape[1]
    values, spare = np.zeros(m + 1, np.float32), np.zeros(m + 1, np.float32)
    for i in range(n):
        s = lattice.simplex[i]
        for j in range(k):
            values[lattice.corner[s, j]] += lattice.weight[i, j]
    values, spare = _blur1(values, spare, lattice.neighbour)
    alpha = ONE / (ONE + np.float32(2.0 ** (1 - k)))
    for i in range(n):
        s = lattice.simplex[i]
        total = ZERO
        for j in range(k):
            total += lattice.weight[i, j] * values[lattice.corner[s, j]] * alpha
        scale = np.float32(np.sqrt(strength * alpha) / np.sqrt(total + 1e-20))
        for j in range(k):
            lattice.weight[i, j] *= scale


@_kernel()
def _slice1(values, lattice, i):
    s, total = lattice.simplex[i], ZERO
    for k in range(lattice.weight.shape[1]):
        total += lattice.weight[i, k] * values[lattice.corner[s, k]]
    return total


@_kernel()
def _splat1(values, lattice, i, x):
    s = lattice.simplex[i]
    for k in range(lattice.weight.shape[1]):
        values[lattice.corner[s, k]] += lattice.weight[i, k] * x


@_kernel()
def _mean_field_binary(unary, ga, bi, num_iter):
    n = unary.shape[1]
    out = np.empty((2, n), np.float32)
    mg, mb = ga.neighbour.shape[1] + 1, bi.neighbour.shape[1] + 1
    vg, vb = np.zeros(mg, np.float32), np.zeros(mb, np.float32)
    ng, nb = np.zeros(mg, np.float32), np.zeros(mb, np.float32)
    block = 64
    x = np.empty(block, np.float32)
    for it in range(num_iter + 1):
        ng[:] = ZERO
        nb[:] = ZERO
        for first in range(0, n, block):
            m = min(block, n - first)
            for b in range(m):
                i = first + b
                x[b] = unary[0, i] - unary[1, i]
                if it > 0:
                    x[b] += _slice1(vg, ga, i) + _slice1(vb, bi, i)
            if it == num_iter:
                for b in range(m):
                    e = _exp(-abs(x[b]))
                    p = ONE / (ONE + e)
                    q = e / (ONE + e)
                    out[0, first + b] = q if x[b] > ZERO else p
                    out[1, first + b] = p if x[b] > ZERO else q
            else:
                for b in range(m):
                    e = _exp(-abs(x[b]))
                    t = (ONE - e) / (ONE + e)
                    x[b] = t if x[b] > ZERO else -t
                for b in range(m):
                    _splat1(ng, ga, first + b, x[b])
                    _splat1(nb, bi, first + b, x[b])
        if it < num_iter:
            vg, ng = _blur1(ng, vg, ga.neighbour)
            vb, nb = _blur1(nb, vb, bi.neighbour)
    return out


@_kernel()
def _blur(values, new, neighbour, width):
    half = np.float32(0.5)
    for axis in range(neighbour.shape[0]):
        for i in range(neighbour.shape[1]):
            a, b = neighbour[axis, i, 0] * width, neighbour[axis, i, 1] * width
            for c in range(0, width, LANES):
                near = _madd(_load(values, a + c), ONE, _load(values, b + c))
                _store(new, i * width + c, _madd(_load(values, i * width + c), half, near))
        values, new = new, values
    return values, new


@_kernel()
def _slice(values, lattice, i, out, width):
    s = lattice.simplex[i]
    for c in range(0, width, LANES):
        total = _load(out, c)
        for k in range(lattice.weight.shape[1]):
            total = _madd(total, lattice.weight[i, k], _load(values, lattice.corner[s, k] * width + c))
        _store(out, c, total)


@_kernel()
def _splat(values, lattice, i, x, width):
    s = lattice.simplex[i]
    for c in range(0, width, LANES):
        v = _load(x, c)
        for k in range(lattice.weight.shape[1]):
            at = lattice.corner[s, k] * width + c
            _store(values, at, _madd(_load(values, at), lattice.weight[i, k], v))


@_kernel()
def _softmax(x):
    top = x[0]
    for c in range(x.shape[0]):
        top = max(top, x[c])
    for c in range(x.shape[0]):
        x[c] = _exp(x[c] - top)
    total = ZERO
    for c in range(x.shape[0]):
        total += x[c]
    inverse = ONE / total
    for c in range(x.shape[0]):
        x[c] *= inverse


@_kernel()
def _mean_field(unary, ga, bi, num_iter):
    labels, n = unary.shape
    width = (labels + LANES - 1) // LANES * LANES
    out = np.empty((labels, n), np.float32)
    mg, mb = (ga.neighbour.shape[1] + 1) * width, (bi.neighbour.shape[1] + 1) * width
    vg, vb = np.zeros(mg, np.float32), np.zeros(mb, np.float32)
    ng, nb = np.zeros(mg, np.float32), np.zeros(mb, np.float32)
    block = 16
    x = np.full((block, width), -1e30, np.float32)
    for it in range(num_iter + 1):
        ng[:] = ZERO
        nb[:] = ZERO
        for first in range(0, n, block):
            m = min(block, n - first)
            for c in range(labels):
                for b in range(m):
                    x[b, c] = -unary[c, first + b]
            for b in range(m):
                for c in range(labels, width):
                    x[b, c] = np.float32(-1e30)
                if it > 0:
                    _slice(vg, ga, first + b, x[b], width)
                    _slice(vb, bi, first + b, x[b], width)
                _softmax(x[b])
                if it < num_iter:
                    _splat(ng, ga, first + b, x[b], width)
                    _splat(nb, bi, first + b, x[b], width)
            if it == num_iter:
                for c in range(labels):
                    for b in range(m):
                        out[c, first + b] = x[b, c]
        if it < num_iter:
            vg, ng = _blur(ng, vg, ga.neighbour, width)
            vb, nb = _blur(nb, vb, bi.neighbour, width)
    return out


@lru_cache(maxsize=2)
def _gaussian(height, width, sxy, compat, x_axis):
    lattice = _build(np.empty((height * width, 0), np.uint8), height, width, sxy, 1, x_axis)
    _normalise(lattice, compat)
    return lattice


def mean_field(image, unary, sxy=80, srgb=13, compat=10, num_iter=5, x_axis=0):
    h, w = image.shape[:2]
    gaussian = _gaussian(h, w, 3.0, 3.0, x_axis)
    bilateral = _build(np.ascontiguousarray(image.reshape(-1, 3)), h, w, sxy, srgb, x_axis)
    _normalise(bilateral, float(compat))
    run = _mean_field_binary if len(unary) == 2 else _mean_field
    return run(unary.reshape(len(unary), -1), gaussian, bilateral, num_iter).reshape(unary.shape)
