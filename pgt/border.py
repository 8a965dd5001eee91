"""What of an image is unlike its border: a saliency map that nobody trained, as a second opinion beside a CAM.

A CAM says where a class is and misses what its network does not need; the border of a photograph is background more
often than not. Two cues of Zhang et al., ICCV 2015 (Minimum Barrier Salient Object Detection at 80 FPS): how large a
step of colour every path to the border has to take, and how far a colour is from those along the border.

Numba compiles the scans once; OpenCV and numpy do the rest.
"""

from functools import partial

import cv2
import numpy as np
from numba import njit
from numpy import ndarray as Array

_BLUR, _SMOOTH = 1.0, 2.0  # standard deviations in pixels, of the image before and of the map after
_STRIP = 0.1  # of the image's side: how wide the border is
_VARIANCE = 10.0  # in grey levels squared, added to that of a strip: one of a single colour is no yardstick
_SCANS = 4
_NOTHING = 0.1  # a distance below it is rounding: a plain image has no object


def border_prior(image: Array) -> Array:
    """image (H,W,3) uint8 RGB -> (H,W) float32 in [0,1], 1 most unlike the border; zeros for a plain image.

    Raises ValueError for another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image is {image.dtype} {image.shape}: give RGB (H, W, 3) uint8")
    lab = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32), (0, 0), _BLUR)
    barrier = np.sum([barrier_distance(np.ascontiguousarray(lab[:, :, i])) for i in range(3)], axis=0)
    return _stretched(cv2.GaussianBlur(_to_one(barrier) + _to_one(border_distance(lab)), (0, 0), _SMOOTH))


def with_border_prior(image: Array, cam: Array, share: float) -> Array:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> (1 - share) of the map and share of the border prior, stretched to
    0..255 uint8. A map that is zero everywhere, of an image without an object, stays as it is, and so does every map
    with a share of 0. Raises ValueError as border_prior does, and where map and image are of different sizes.
    """
    if not share or not cam.any():
        return cam
    if cam.shape != image.shape[:2]:
        raise ValueError(f"map {cam.shape} and image {image.shape[:2]} are of different sizes")
    both = (1 - share) * cam.astype(np.float32) / 255 + share * border_prior(image)
    return (255 * _stretched(both)).round().astype(np.uint8)


def border_distance(lab: Array) -> Array:
    """lab (H,W,3) float32 -> (H,W): Mahalanobis distances of each pixel to the colours of the border's four strips,
    added up but for the largest, since an object may touch one of them (section 4.3)."""
    rows, columns = (max(1, round(_STRIP * side)) for side in lab.shape[:2])
    strips = lab[:rows], lab[-rows:], lab[:, :columns], lab[:, -columns:]
    distances = np.stack([_mahalanobis(lab, strip.reshape(-1, 3)) for strip in strips])
    return distances.sum(0) - distances.max(0)


def _mahalanobis(lab: Array, colors: Array) -> Array:
    centred = colors - colors.mean(0)
    covariance = centred.T @ centred / len(colors) + _VARIANCE * np.eye(3, dtype=np.float32)
    whitened = (lab - colors.mean(0)) @ np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    return np.sqrt((whitened**2).sum(2))


def _to_one(x: Array) -> Array:
    top = float(x.max())
    return x / top if top > _NOTHING else np.zeros_like(x)


def _stretched(x: Array) -> Array:
    span = float(np.ptp(x))
    return (x - x.min()) / span if span else x


@partial(njit, cache=True, nogil=True)
def barrier_distance(channel: Array) -> Array:
    """channel (H,W) float32 -> (H,W) float32: the least of (largest - smallest value) on the paths from each pixel to
    the border, nearly: raster scans to and fro, each taking over what the two neighbours before have (Alg. 1)."""
    height, width = channel.shape
    distance = np.full((height, width), np.float32(np.inf))
    distance[0], distance[-1], distance[:, 0], distance[:, -1] = 0, 0, 0, 0
    largest, smallest = channel.copy(), channel.copy()
    for scan in range(_SCANS):
        step = 1 if scan % 2 == 0 else -1
        for i in range(1, height - 1):
            y = i if step == 1 else height - 1 - i
            for j in range(1, width - 1):
                x = j if step == 1 else width - 1 - j
                value = channel[y, x]
                for v, u in ((y - step, x), (y, x - step)):
                    top, bottom = max(largest[v, u], value), min(smallest[v, u], value)
                    if top - bottom < distance[y, x]:
                        distance[y, x] = top - bottom
                        largest[y, x], smallest[y, x] = top, bottom
    return distance
