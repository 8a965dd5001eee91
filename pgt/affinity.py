"""Affinity of pixel pairs: which pairs, their labels and loss, and the random walk that spreads CAMs along it.

Ahn & Kwak, Learning Pixel-level Semantic Affinity with Image-level Supervision, CVPR 2018, with the settings of HFPL.

    training    la, ha maps --block_mean--> confident_label --> affinity_labels --> affinity_loss
    inference   CAMs of an image + affinity of its grid --walk_labels--> scores and label map

The grid is that of net.affinitynet: an eighth of the image, sides rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

RADIUS = 5
STRIDE = 8  # pixels of the image along a cell of the grid
IGNORE = 255
ALPHA, BETA, EXP_TIMES = 6, 8, 6
Vectors = TypeVar("Vectors", Tensor, np.ndarray)
_EPS = 1e-5
_TAIL = 1e-7  # of the polynomial, left out: the rounding of float32
_BLOCK = 1024  # pixels, so that what a kernel works on stays in the cache


# ---- pairs ----


def effective_radius(radius: int, size: Sequence[int]) -> int:
    """The radius that a grid (h, w) allows: `radius`, or (min(h, w) - 1) // 2 where that is smaller.

    Raises ValueError for a radius below 1 or a grid without pixels.
    """
    if radius < 1:
        raise ValueError(f"radius must be 1 or more, not {radius!r}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a grid of size {tuple(size)} holds no pixels: give (h, w), each 1 or more")
    return min(radius, (min(size) - 1) // 2)


def pair_directions(radius: int) -> list[tuple[int, int]]:
    """Steps (dy, dx) shorter than radius, rightwards in a row or to a row below: 34 at radius 5, none below 2."""
    steps = [(dy, dx) for dy in range(radius) for dx in range(1 - radius, radius) if (dy, dx) > (0, 0)]
    return [(dy, dx) for dy, dx in steps if dy * dy + dx * dx < radius * radius]


def pair_indices(radius: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Pixel pairs of a grid (h, w) -> from (M,), to (n_pairs, M): row-major pixel numbers, int64.

    A pixel whose neighbours all lie on the grid is paired with the one in each of pair_directions(). On small grids
    the radius is effective_radius(); with a side below 5 there are no pairs and `to` is (0, M).
    Raises ValueError as effective_radius(). Source: CVPR 2018, section 3.2.1.
    """
    radius = effective_radius(radius, size)
    height, width = size
    margin = max(radius - 1, 0)
    pixels = np.arange(height * width).reshape(height, width)
    start = pixels[: height - margin, margin : width - margin].flatten()
    steps = np.array([dy * width + dx for dy, dx in pair_directions(radius)], np.int64)
    return torch.from_numpy(start), torch.from_numpy(start + steps[:, None])


# ---- training ----


def block_mean(maps: Tensor, stride: int = STRIDE) -> Tensor:
    """(C,H,W) -> means of blocks, (C,ceil(H/stride),ceil(W/stride)); beyond the right and bottom edge maps are zero."""
    height, width = maps.shape[-2:]
    return avg_pool2d(pad(maps, (0, -width % stride, 0, -height % stride)), stride)


def confident_label(la: Tensor, ha: Tensor) -> Tensor:
    """What two CRF maps agree on -> (h,w) uint8: 0 background, 1.. a channel of la, IGNORE unsure.

    la, ha (P+1,h,w): scores >= 0 of the background and P classes, from CAMs whose background is weak (la) and strong
    (ha). Background is where ha says so; else a class where la has it; where neither has a score it is unsure, as in
    the padding of a crop. Raises ValueError for shapes that differ.
    """
    if la.shape != ha.shape or la.ndim != 3 or not 1 <= len(la) <= IGNORE:
        raise ValueError(f"la {tuple(la.shape)} and ha {tuple(ha.shape)} must both be (P+1,h,w), the background first")
    label = la.argmax(0)
    label[label == 0] = IGNORE
    label[ha.argmax(0) == 0] = 0
    label[torch.maximum(la.amax(0), ha.amax(0)) < _EPS] = IGNORE
    return label.to(torch.uint8)


def affinity_labels(label: Tensor | np.ndarray, radius: int = RADIUS) -> tuple[Tensor, Tensor, Tensor]:
    """label (h,w) of integers, IGNORE unsure -> bg, fg, neg: each (n_pairs, M) float32 of 0 and 1, as pair_indices().

    bg: both pixels background; fg: both of one class; neg: of two labels. Pairs with an unsure pixel are none of them.
    Raises ValueError for another shape, and as effective_radius().
    """
    label = torch.as_tensor(label)
    if label.ndim != 2:
        raise ValueError(f"label must be (h,w), not {tuple(label.shape)}")
    start, end = pair_indices(radius, label.shape)
    near, far = label.flatten()[start], label.flatten()[end]
    sure, same, background = (near != IGNORE) & (far != IGNORE), near == far, near == 0
    return (same & background).float(), (same & ~background & sure).float(), (~same & sure).float()


def affinity_loss(affinity: Tensor, bg: Tensor, fg: Tensor, neg: Tensor) -> Tensor:
    """affinity (N, n_pairs, M) in [0,1] and its labels, each of that shape -> the loss, a scalar with gradient.

    A quarter of the mean of -log(affinity) over bg pairs, a quarter over fg pairs, and half the mean of
    -log(1 - affinity) over neg pairs; means over the whole batch, 0 without pairs. Raises ValueError for shapes that
    differ. Source: CVPR 2018, section 3.2.2.
    """
    for name, label in (("bg", bg), ("fg", fg), ("neg", neg)):
        if label.shape != affinity.shape:
            raise ValueError(f"affinity is {tuple(affinity.shape)} but {name} {tuple(label.shape)}: one label per pair")
    alike, unlike = -torch.log(affinity + _EPS), -torch.log(1 + _EPS - affinity)

    def mean(loss: Tensor, label: Tensor) -> Tensor:
        return (label * loss).sum() / (label.sum() + _EPS)

    return mean(alike, bg) / 4 + mean(alike, fg) / 4 + mean(unlike, neg) / 2


# ---- random walk ----


@dataclass(frozen=True)
class Transition:
    """T = A D^-1 of a grid of n pixels; A is the symmetric matrix of affinities, 1 on its diagonal, D its column sums.

    steps (J,) int64 lead from a pixel to its neighbours, in pixel numbers. weights (J,n): T of the neighbour (row) and
    the pixel (column), 0 where there is none.
    """

    steps: Tensor
    weights: Tensor

    def apply(self, vectors: Vectors) -> Vectors:
        """(C,n) -> vectors T: each pixel takes the weighted mean of itself and its neighbours.

        A tensor is taken in plain torch; an array in the compiled kernel, for which all is float32 and on the CPU.
        As x_j + sum_i T_ij (x_i - x_j): what is constant stays so to the last bit, and rounding does not add up.
        """
        channels, n = vectors.shape
        if isinstance(vectors, Tensor):
            neighbours = (torch.arange(n, device=vectors.device) + self.steps[:, None]).clamp_(0, n - 1)
            return vectors + (vectors[:, neighbours] - vectors[:, None]).mul_(self.weights).sum(1)
        fours = len(self.steps) // 4, 4  # always without a rest: a disk looks alike from four sides
        weights, steps = self.weights.numpy().reshape(*fours, n), self.steps.numpy().reshape(fours)
        reach = abs(steps).max(initial=0)
        padded = np.zeros((channels, n + 2 * reach), np.float32)
        padded[:, reach : reach + n] = vectors
        flow = np.empty((channels, n), np.float32)
        _flow(weights, steps, padded, flow)
        flow += vectors
        return flow


def transition(affinity: Tensor, size: Sequence[int], radius: int = RADIUS, beta: float = BETA) -> Transition:
    """affinity (n_pairs, M) in [0,1] of the pairs of a grid (h, w), as pair_indices() -> the Transition of its power.

    beta >= 0: elementwise power, which lets weak affinities vanish.
    Raises ValueError for another number of pairs, values that are negative or not finite, a beta below 0.
    """
    start, end = (index.numpy() for index in pair_indices(radius, size))
    if affinity.shape != end.shape:
        pairs = f"a grid of {tuple(size)} has {end.shape} pairs at radius {radius}"
        raise ValueError(f"affinity is {tuple(affinity.shape)}, but {pairs}: give the affinity of this grid")
    # numpy for any device: so little work is done before torch has its threads together
    powers = affinity.detach().cpu().numpy()
    if not (np.isfinite(powers).all() and (powers >= 0).all() and beta >= 0):
        raise ValueError(f"affinity must be finite and 0 or more, and so must {beta=}")
    weights = np.zeros((2 * len(end), size[0] * size[1]), powers.dtype)
    onwards, back = np.split(weights, 2)
    onwards[:, start] = powers = powers**beta
    np.put_along_axis(back, end, powers, axis=1)
    weights /= 1 + weights.sum(0)
    steps = end[:, 0] - start[0]
    arrays = np.concatenate([steps, -steps]), weights
    return Transition(*(torch.from_numpy(array).to(affinity.device) for array in arrays))


def random_walk(
    cam: Tensor, affinity: Tensor, radius: int = RADIUS, beta: float = BETA, exp_times: int = EXP_TIMES
) -> Tensor:
    """CAMs (C,h,w), of the present classes only, after 2^exp_times steps of a random walk -> (C,h,w), no gradient.

    affinity (n_pairs, M), beta: as transition(), on the device of cam. No matrix is built: memory grows with the number
    of pixels, time with that and with 2^(exp_times/2). float32 on the CPU runs in a compiled kernel, all else in plain
    torch, at float32 or above. The result is that of the dense T^(2^exp_times) to 1e-6 of the largest value; at float32
    and more than 256 steps rounding adds up, to 5e-5 at 65536.
    Raises ValueError for other shapes, tensors on two devices, NaN or infinite CAMs, a negative exp_times, and as
    transition(). Source: CVPR 2018, section 3.3; the polynomial: _power_coefficients().
    """
    if cam.ndim != 3 or not cam.is_floating_point():
        raise ValueError(f"cam must be (C,h,w) floating point, not {tuple(cam.shape)} {cam.dtype}")
    if cam.device != affinity.device:
        raise ValueError(f"cam is on {cam.device}, affinity on {affinity.device}: move one to the other")
    if not isinstance(exp_times, (int, np.integer)) or exp_times < 0:
        raise ValueError(f"exp_times must be an integer of 0 or more, not {exp_times!r}")
    vectors = cam.detach().to(torch.promote_types(cam.dtype, torch.float32)).flatten(1)
    step = transition(affinity.to(vectors.dtype), cam.shape[1:], radius, beta)
    in_kernel = vectors.is_cpu and vectors.dtype == torch.float32
    if not (np.isfinite(vectors.numpy()) if in_kernel else torch.isfinite(vectors)).all():
        raise ValueError("cam holds NaN or infinite values: mend the step that made it")
    power = 2 ** int(exp_times)
    walked = torch.from_numpy(_walk(step, vectors.numpy(), power)) if in_kernel else _walk(step, vectors, power)
    return walked.view(cam.shape).to(cam.dtype)


def _walk(step: Transition, vectors: Vectors, power: int) -> Vectors:
    """vectors T^power as x + sum_k c_k (t_k - x), where t_0 = x, t_1 = x T, t_k+1 = 2 t_k T - t_k-1."""
    _, first, *others = _power_coefficients(power)
    previous, current = vectors, step.apply(vectors)
    result = vectors + first * (current - vectors)
    for coefficient in others:
        previous, current = current, 2 * step.apply(current) - previous
        if coefficient:
            result += coefficient * (current - vectors)
    return result


def _power_coefficients(power: int) -> list[float]:
    """c_k with x^power = sum_k c_k T_k(x), the Chebyshev polynomials, up to 1e-7 on [-1,1]: degree 42 for power 64.

    T has its eigenvalues there, as it is similar to the symmetric D^-1/2 A D^-1/2. c_k is the chance that as many steps
    left or right end k from the start, so those far beyond sqrt(power) hardly count.
    Source: Sachdeva & Vishnoi, Faster Algorithms via Approximation Theory, 2014, chapter 3.
    """
    degree = np.arange(power % 2, min(power, 8 * math.isqrt(power)) + 1, 2)  # chances beyond are below 1e-14
    ratio = (power - degree) / (power + degree + 2)  # of the binomial coefficients, one degree to the next
    chance = np.cumprod(np.append(1, ratio[:-1])) * np.where(degree == 0, 1, 2)
    chance /= chance.sum()
    kept = chance[::-1].cumsum()[::-1] > _TAIL
    coefficients = np.zeros(degree[kept][-1] + 1)
    coefficients[degree[kept]] = chance[kept]
    return coefficients.tolist()


@njit(cache=True, nogil=True)
def _flow(weights: np.ndarray, steps: np.ndarray, padded: np.ndarray, flow: np.ndarray):
    """flow (C,n) becomes sum_j weights_j (neighbour_j - pixel), for weights (G,4,n) and steps (G,4).

    padded (C,n+2*reach): the pixels and, at both ends, as many values as the longest step leads beyond them.
    """
    channels, n = flow.shape
    reach = (padded.shape[1] - n) // 2
    for low in range(0, n, _BLOCK):
        high = min(low + _BLOCK, n)
        for c in range(channels):
            vector, total = padded[c], flow[c, low:high]
            near = vector[reach + low : reach + high]
            total[:] = 0
            for g in range(len(steps)):  # four at a time: fewer loads and stores
                w0, w1 = weights[g, 0, low:high], weights[g, 1, low:high]
                w2, w3 = weights[g, 2, low:high], weights[g, 3, low:high]
                f0, f1 = vector[reach + low + steps[g, 0] :], vector[reach + low + steps[g, 1] :]
                f2, f3 = vector[reach + low + steps[g, 2] :], vector[reach + low + steps[g, 3] :]
                for i in range(high - low):
                    x = near[i]
                    total[i] += w0[i] * (f0[i] - x) + w1[i] * (f1[i] - x) + w2[i] * (f2[i] - x) + w3[i] * (f3[i] - x)


# ---- inference ----


def background_score(cam: Tensor, alpha: float = ALPHA) -> Tensor:
    """cam (P,H,W) in [0,1] -> (H,W) in [0,1]: (1 - largest)^alpha, 1 without a class. Values beyond are clipped."""
    if not len(cam):
        return cam.new_ones(cam.shape[1:])
    return (1 - cam.amax(0)).clamp(0, 1) ** alpha


def walk_labels(
    cam: Tensor,
    keys: Sequence[int],
    affinity: Tensor,
    *,
    radius: int = RADIUS,
    alpha: float = ALPHA,
    beta: float = BETA,
    exp_times: int = EXP_TIMES,
) -> tuple[Tensor, Tensor]:
    """CAMs of an image and the affinity of its grid -> scores (P+1,H,W), background first, and label map (H,W) uint8.

    cam (P,H,W) in [0,1] at image size, keys (P,) their labels, 1..254 ascending; P may be 0. affinity: of the whole
    image, whose grid is (ceil(H/8), ceil(W/8)). Scores are the means of 8 x 8 pixels after the walk, brought back
    bilinearly; the label is the first of the largest.
    Raises ValueError for keys that do not fit, and as random_walk(). Source: CVPR 2018, section 3.3; HFPL infer_aff.
    """
    keys = [int(key) for key in keys]
    if cam.ndim != 3 or len(keys) != len(cam):
        raise ValueError(f"cam is {tuple(cam.shape)} for {len(keys)} keys: give (P,H,W), one map per key")
    if keys != sorted(set(keys)) or any(not 0 < key < IGNORE for key in keys):
        raise ValueError(f"keys must be ascending labels within 1..{IGNORE - 1}, not {keys}")
    height, width = cam.shape[1:]
    grid = block_mean(torch.cat([background_score(cam, alpha)[None], cam]))
    walked = random_walk(grid, affinity, radius, beta, exp_times)
    size = [side * STRIDE for side in walked.shape[1:]]
    scores = interpolate(walked[None], size, mode="bilinear", align_corners=False)[0, :, :height, :width]
    return scores, torch.tensor([0, *keys], dtype=torch.uint8, device=cam.device)[scores.argmax(0)]
