"""Mean field on the lattice of one image, in numba kernels: a form for two labels and one for many.

numba's cache of compiled kernels notices a change of the kernel's own file alone, so no kernel here calls one of
another file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from pgt.crf.lattice import COLUMNS, FORBIDDEN, ONE, ZERO, Array, Lattice, build, kernel

if TYPE_CHECKING:
    from pgt.crf import CRFParams

_Pair = tuple[Array, ...]  # values on the vertices of the position lattice and of the bilateral one
_intrinsic = cast(Callable[..., Callable[..., Any]], intrinsic)  # numba gives the first argument


def infer(image: Array, unary: Array, params: CRFParams) -> Array:
    """mean_field of an image (H, W, 3) uint8 and energies (C, H, W) float32, both contiguous and checked."""
    (height, width), labels = image.shape[:2], len(unary)
    few_pixels = height * width <= 1 << 20  # a cached lattice takes about 25 bytes per pixel
    of_size = position_lattice if few_pixels else position_lattice.__wrapped__
    gaussian = of_size(height, width, params.gaussian_sxy, params.gaussian_compat)
    if params.feature_order.endswith("bgr"):
        image = np.ascontiguousarray(image[..., ::-1])
    bilateral = build(image, params.bilateral_sxy, params.bilateral_srgb, params.feature_order.index("x"))
    _normalise(bilateral, params.bilateral_compat)
    return _iterate(unary.reshape(labels, -1), (gaussian, bilateral), params.num_iter).reshape(unary.shape)


def _iterate(unary: Array, lattices: tuple[Lattice, Lattice], num_iter: int) -> Array:
    """Marginals (C, N) of energies (C, N) on normalised lattices of position and of position and colour."""
    width, sweep, blur = 1, _sweep_two, _blur
    if len(unary) != 2:
        width = (len(unary) + LANES - 1) // LANES * LANES
        sweep, blur = partial(_sweep_many, width), partial(_blur_rows, width)
    old, new = (tuple(np.zeros((at.neighbour.shape[1] + 1) * width, np.float32) for at in lattices) for _ in range(2))
    nothing, marginals = np.empty((0, 0), np.float32), np.empty(unary.shape, np.float32)
    for turn in range(num_iter):
        for values in new:
            values[:] = 0
        sweep(unary, *lattices, turn, old, new, nothing)
        blurred = [blur(at.neighbour, *values) for at, *values in zip(lattices, new, old, strict=True)]
        old, new = zip(*blurred, strict=True)
    sweep(unary, *lattices, num_iter, old, new, marginals)
    return marginals


@lru_cache(maxsize=8)
def position_lattice(height: int, width: int, sxy: float, compat: float) -> Lattice:
    """The position kernel depends on the size of the image alone: data sets have few sizes."""
    lattice = build(np.empty((height, width, 0), np.uint8), sxy, 1.0, 0)
    _normalise(lattice, compat)
    return lattice


# ---- filtering one channel ----


@kernel
def _splat(lattice: Lattice, first: int, x: Array, values: Array):
    for b in range(min(COLUMNS, lattice.weight.shape[0] - first)):
        simplex = lattice.simplex[first + b]
        for k in range(lattice.weight.shape[1]):
            values[lattice.corner[simplex, k]] += lattice.weight[first + b, k] * x[b]


@kernel
def _slice(lattice: Lattice, first: int, values: Array, x: Array):
    for b in range(min(COLUMNS, lattice.weight.shape[0] - first)):
        simplex = lattice.simplex[first + b]
        for k in range(lattice.weight.shape[1]):
            x[b] += lattice.weight[first + b, k] * values[lattice.corner[simplex, k]]


@kernel
def _blur(neighbour: Array, values: Array, spare: Array):
    """-> blurred values, and the other array, free for the next call."""
    for axis in range(neighbour.shape[0]):
        for i in range(neighbour.shape[1]):
            near = values[neighbour[axis, i, 0]] + values[neighbour[axis, i, 1]]
            spare[i] = values[i] + np.float32(0.5) * near
        values, spare = spare, values
    return values, spare


@kernel
def _normalise(lattice: Lattice, compat: float):
    """Scales the weights in place: slice(blur(splat(q))) is then compat times the symmetrically normalised kernel."""
    n, size = lattice.weight.shape
    m = lattice.neighbour.shape[1]
    alpha = np.float32(1 / (1 + 2.0 ** (1 - size)))  # gain of the blur
    values, x = np.zeros(m + 1, np.float32), np.ones(COLUMNS, np.float32)
    for first in range(0, n, COLUMNS):
        _splat(lattice, first, x, values)
    values, _ = _blur(lattice.neighbour, values, np.zeros(m + 1, np.float32))
    for first in range(0, n, COLUMNS):
        x[:] = ZERO
        _slice(lattice, first, values, x)
        for b in range(min(COLUMNS, n - first)):
            scale = np.float32(np.sqrt(compat * alpha) / np.sqrt(x[b] * alpha + 1e-20))
            for k in range(size):
                lattice.weight[first + b, k] *= scale


# ---- mean field of two labels: one channel, the difference of the two marginals ----


@partial(kernel, fastmath={"contract"})
def _exp(x: float):
    """exp of x <= 0 to 1e-7 (the polynomial of Cephes' expf), 0 below -60: no subnormal numbers, which are slow."""
    power = np.rint(x * np.float32(1.44269504))
    r = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + ONE
    exponent = np.int32((np.int32(power) + np.int32(127)) << np.int32(23))
    return p * exponent.view(np.float32) if x > np.float32(-60) else ZERO


@kernel
def _difference(x: Array):
    """In place: log-odds -> marginal of label 1 minus marginal of label 0."""
    for b in range(COLUMNS):
        e = _exp(-abs(x[b]))
        t = (ONE - e) / (ONE + e)
        x[b] = t if x[b] > ZERO else -t


@kernel
def _log_odds(unary: Array, first: int, x: Array):
    for b in range(min(COLUMNS, unary.shape[1] - first)):
        x[b] = min(unary[0, first + b], FORBIDDEN) - min(unary[1, first + b], FORBIDDEN)


@kernel
def _marginals_of_two(x: Array, first: int, marginals: Array):
    for b in range(min(COLUMNS, marginals.shape[1] - first)):
        e = _exp(-abs(x[b]))
        likely, other = ONE / (ONE + e), e / (ONE + e)
        marginals[0, first + b] = other if x[b] > ZERO else likely
        marginals[1, first + b] = likely if x[b] > ZERO else other


@kernel
def _sweep_two(
    unary: Array, gaussian: Lattice, bilateral: Lattice, turn: int, old: _Pair, new: _Pair, marginals: Array
):
    """One pass over the pixels: slices the blurred values `old` of both lattices, splats the marginals to `new`.

    Where `marginals` is not empty it receives them instead.  Nothing is there to slice at turn 0.
    """
    x = np.zeros(COLUMNS, np.float32)
    for first in range(0, unary.shape[1], COLUMNS):
        _log_odds(unary, first, x)
        if turn:
            _slice(gaussian, first, old[0], x)
            _slice(bilateral, first, old[1], x)
        if marginals.shape[0]:
            _marginals_of_two(x, first, marginals)
        else:
            _difference(x)
            _splat(gaussian, first, x, new[0])
            _splat(bilateral, first, x, new[1])


# ---- mean field of many labels: channels lie side by side and are worked on eight at a time ----

LANES = 8
_LANES_IR = ir.VectorType(ir.FloatType(), LANES)


class _Float32x8(types.Type):
    """Eight float32 as one LLVM vector: whether LLVM vectorises a short loop over channels by itself is luck."""

    def __init__(self):
        super().__init__("Float32x8")


_float32x8 = _Float32x8()


@register_model(_Float32x8)
class _Float32x8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, _LANES_IR)


def _vector_pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _LANES_IR.as_pointer())


def _shuffle(builder: Any, a: Any, b: Any, lanes: Any):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), LANES), lanes))


@_intrinsic
def _load(_context: Any, array: Any, index: Any):
    """Eight values of a contiguous array from its flat index."""

    def code(context: Any, builder: Any, signature: Any, args: Any):
        return builder.load(_vector_pointer(context, builder, signature.args[0], *args), align=4)

    return _float32x8(array, types.intp), code


@_intrinsic
def _store(_context: Any, array: Any, index: Any, vector: Any):
    def code(context: Any, builder: Any, signature: Any, args: Any):
        pointer = _vector_pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, _float32x8), code


@_intrinsic
def _madd(_context: Any, vector: Any, factor: Any, other: Any):
    """vector + factor * other."""

    def code(context: Any, builder: Any, signature: Any, args: Any):
        lane = builder.insert_element(ir.Constant(_LANES_IR, ir.Undefined), args[1], ir.IntType(32)(0))
        product = builder.fmul(_shuffle(builder, lane, lane, [0] * LANES), args[2], flags=("contract",))
        return builder.fadd(args[0], product, flags=("contract",))

    return _float32x8(_float32x8, types.float32, _float32x8), code


@_intrinsic
def _transpose8(_context: Any, source: Any, start: Any, step: Any, target: Any, target_start: Any, target_step: Any):
    """Transposes a tile of 8x8 values between two contiguous arrays; flat indices, steps from row to row."""

    def code(context: Any, builder: Any, signature: Any, args: Any):
        def row(which: int, k: int):
            index = builder.add(args[which + 1], builder.mul(args[which + 2], ir.IntType(64)(k)))
            return _vector_pointer(context, builder, signature.args[which], args[which], index)

        rows = [builder.load(row(0, k), align=4) for k in range(LANES)]
        for t in (1, 2, 4):  # swaps the off-diagonal blocks of t x t values
            low = [lane if not lane & t else LANES + lane - t for lane in range(LANES)]
            high = [lane + t if not lane & t else LANES + lane for lane in range(LANES)]
            for k in (k for k in range(LANES) if not k & t):
                a, b = rows[k], rows[k + t]
                rows[k], rows[k + t] = _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
        for k in range(LANES):
            builder.store(rows[k], row(3, k), align=4)
        return context.get_dummy_value()

    index = types.intp
    return types.none(source, index, index, target, index, index), code


@kernel
def _splat_rows(lattice: Lattice, first: int, rows: Array, width: int, values: Array):
    for b in range(min(COLUMNS, lattice.weight.shape[0] - first)):
        simplex = lattice.simplex[first + b]
        for c in range(0, width, LANES):
            row = _load(rows, b * width + c)
            for k in range(lattice.weight.shape[1]):
                at = lattice.corner[simplex, k] * width + c
                _store(values, at, _madd(_load(values, at), lattice.weight[first + b, k], row))


@kernel
def _slice_rows(lattice: Lattice, first: int, values: Array, width: int, rows: Array):
    for b in range(min(COLUMNS, lattice.weight.shape[0] - first)):
        simplex = lattice.simplex[first + b]
        for c in range(0, width, LANES):
            row = _load(rows, b * width + c)
            for k in range(lattice.weight.shape[1]):
                row = _madd(row, lattice.weight[first + b, k], _load(values, lattice.corner[simplex, k] * width + c))
            _store(rows, b * width + c, row)


@kernel
def _blur_rows(width: int, neighbour: Array, values: Array, spare: Array):
    """-> blurred values, and the other array, free for the next call."""
    half = np.float32(0.5)
    for axis in range(neighbour.shape[0]):
        for i in range(neighbour.shape[1]):
            before, after = neighbour[axis, i, 0] * width, neighbour[axis, i, 1] * width
            for c in range(0, width, LANES):
                near = _madd(_load(values, before + c), ONE, _load(values, after + c))
                _store(spare, i * width + c, _madd(_load(values, i * width + c), half, near))
        values, spare = spare, values
    return values, spare


@kernel
def _transpose(source: Array, target: Array):
    """(A, B) -> (B, A), both multiples of 8."""
    a, b = source.shape
    for i in range(0, a, LANES):
        for j in range(0, b, LANES):
            _transpose8(source, i * b + j, b, target, j * a + i, a)


@kernel
def _softmax(energy: Array, first: int, message: Array, marginal: Array):
    """marginal = softmax(message - energy) over the labels, (C, COLUMNS)."""
    m = min(COLUMNS, energy.shape[1] - first)
    top = np.full(COLUMNS, -np.inf, np.float32)
    total = np.zeros(COLUMNS, np.float32)
    for c in range(energy.shape[0]):
        for b in range(m):
            marginal[c, b] = message[c, b] - min(energy[c, first + b], FORBIDDEN)
        for b in range(COLUMNS):
            top[b] = max(top[b], marginal[c, b])
    for c in range(energy.shape[0]):
        for b in range(COLUMNS):
            marginal[c, b] = _exp(marginal[c, b] - top[b])
            total[b] += marginal[c, b]
    for b in range(COLUMNS):
        total[b] = ONE / total[b]
    for c in range(energy.shape[0]):
        for b in range(COLUMNS):
            marginal[c, b] *= total[b]


@kernel
def _sweep_many(
    width: int, unary: Array, gaussian: Lattice, bilateral: Lattice, turn: int, old: _Pair, new: _Pair, marginals: Array
):
    """As _sweep_two, for C labels in rows of `width` channels."""
    labels, n = unary.shape
    rows = np.zeros((COLUMNS, width), np.float32)
    message, marginal = np.zeros((width, COLUMNS), np.float32), np.zeros((width, COLUMNS), np.float32)
    for first in range(0, n, COLUMNS):
        if turn:
            rows[:] = ZERO
            _slice_rows(gaussian, first, old[0], width, rows)
            _slice_rows(bilateral, first, old[1], width, rows)
            _transpose(rows, message)
        _softmax(unary, first, message, marginal)
        if marginals.shape[0]:
            m = min(COLUMNS, n - first)
            marginals[:, first : first + m] = marginal[:labels, :m]
        else:
            _transpose(marginal, rows)
            _splat_rows(gaussian, first, rows, width, new[0])
            _splat_rows(bilateral, first, rows, width, new[1])
