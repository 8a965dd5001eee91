"""Random changes of training images. Pure functions of an image and a numpy Generator: the same draws, the same bytes.

Images are (H,W,3) uint8 RGB. What lies beyond an image's border is filled with a colour, the mean of the network's
data, so that it is 0 after normalisation. numpy is slow where three channels are its innermost loop, and a new array of
an image's size costs more than a sum over it: hence OpenCV, whole rows, and work in place (benchmarks/loader.py).
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator

GRAY = np.float32([0.299, 0.587, 0.114])  # of R, G and B


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """To (H, W): by areas where it shrinks, bicubic where it grows."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C,H,W) float32 -> (C,*size), bilinear."""
    if maps.shape[1:] == size:
        return maps
    return np.stack([cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in maps])


def random_resize_long(image: np.ndarray, low: int, high: int, rng: Generator) -> np.ndarray:
    """The long side becomes a whole number drawn from low..high (IRN)."""
    scale = int(rng.integers(low, high + 1)) / max(image.shape[:2])
    return resize(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))


def random_crop(
    arrays: Sequence[np.ndarray], crop: int, fills: Sequence[Sequence[float] | float], rng: Generator
) -> list[np.ndarray]:
    """The same crop x crop window of arrays (H,W,...) that belong together, each with its own fill. Where it lies is
    drawn evenly; a side of the arrays that is shorter is placed anywhere within the window instead."""
    places, out = [], []
    for side in arrays[0].shape[:2]:
        start, length = int(rng.integers(0, abs(crop - side) + 1)), min(crop, side)
        moved, whole = slice(start, start + length), slice(0, length)
        places.append((moved, whole) if crop > side else (whole, moved))
    in_window, in_array = zip(*places, strict=True)
    for array, fill in zip(arrays, fills, strict=True):
        window = np.empty((crop, crop, *array.shape[2:]), array.dtype)
        window[:] = np.full(window.shape[1:], np.round(fill) if array.dtype.kind == "u" else fill, array.dtype)
        window[in_window] = array[in_array]
        out.append(window)
    return out


def random_resized_crop(
    image: np.ndarray, crop: int, area: tuple[float, float], rng: Generator, ratio: float = 4 / 3
) -> np.ndarray:
    """A part of the image with this share of its area and a side ratio of 1/ratio..ratio, brought to crop x crop
    (Szegedy et al., CVPR 2015)."""
    height, width = image.shape[:2]
    for _ in range(10):
        part = height * width * rng.uniform(*area)
        stretch = np.exp(rng.uniform(-np.log(ratio), np.log(ratio)) / 2)
        h, w = round(np.sqrt(part) / stretch), round(np.sqrt(part) * stretch)
        if 0 < h <= height and 0 < w <= width:
            y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return resize(image[y : y + h, x : x + w], (crop, crop))
    return resize(image, (crop, crop))


def random_flip(arrays: Sequence[np.ndarray], rng: Generator) -> list[np.ndarray]:
    """Left to right, all or none of them."""
    return [_mirrored(array) for array in arrays] if rng.random() < 0.5 else list(arrays)


def _mirrored(array: np.ndarray) -> np.ndarray:
    return cv2.flip(array, 1) if array.shape[2:] in ((), (3,)) else array[:, ::-1]


def draw_color_jitter(strength: float, hue: float, rng: Generator) -> list[tuple[int, float]]:
    """What torchvision's ColorJitter(strength, strength, strength, hue) does, in an order drawn: brightness (0),
    contrast (1) and saturation (2) by factors of 1 +- strength, hue (3) by degrees, up to +- hue of the circle."""
    if not strength and not hue:
        return []
    ranges = [(1 - strength, 1 + strength)] * 3 + [(-hue, hue)]
    return [(int(k), rng.uniform(*ranges[k]) * (360 if k == 3 else 1)) for k in rng.permutation(4 if hue else 3)]


def change_colors(x: np.ndarray, kind: int, value: float) -> np.ndarray:
    """x (H,W,3) float32 in 0..255, which is overwritten -> with one change of draw_color_jitter."""
    if kind == 3:
        return _turned(x, value)
    gray = x @ GRAY
    other = 0 if kind == 0 else gray.mean() if kind == 1 else cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    x -= other
    x *= np.float32(value)
    x += other
    return np.clip(x, 0, 255, out=x)


def _turned(x: np.ndarray, degrees: float) -> np.ndarray:
    hsv = cv2.cvtColor(np.divide(x, 255, out=x), cv2.COLOR_RGB2HSV)
    h = hsv[..., 0] + np.float32(degrees)  # within a circle of 0..360; the remainder would be slow
    h += np.float32(360) * (h < 0)
    h -= np.float32(360) * (h >= 360)
    hsv[..., 0] = h
    return np.multiply(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=x), 255, out=x)


def color_jitter(image: np.ndarray, strength: float, hue: float, rng: Generator) -> np.ndarray:
    """Brightness, contrast, saturation and hue as draw_color_jitter says."""
    x = image.astype(np.float32)
    for kind, value in draw_color_jitter(strength, hue, rng):
        x = change_colors(x, kind, value)
    return np.rint(x, out=x).astype(np.uint8)


def draw_hsv_jitter(strength: int, rng: Generator) -> np.ndarray:
    """-> (1,3) int16 in -strength..strength, moves of hue (of 180), saturation and value (of 255); (0,3) where 0."""
    return rng.integers(-strength, strength + 1, (1 if strength else 0, 3), dtype=np.int16)


def hsv_jitter(image: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    """Hue (0..179), saturation and value (0..255) moved by a whole number of up to +- strength each (SEAM's and HFPL's
    RandomHSV)."""
    for moves in draw_hsv_jitter(strength, rng):
        table = np.arange(256, dtype=np.int16)[:, None] + moves
        table[:, 0] %= 180
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table.clip(0, 255).astype(np.uint8)[None])
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return image


def random_erasing(
    image: np.ndarray, probability: float, area: tuple[float, float], fill: Sequence[float], rng: Generator
) -> np.ndarray:
    """With this probability a rectangle of this share of the image is filled (Zhong et al., AAAI 2020): what is left
    has to be recognised as well, which spreads the map over the object."""
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    part, stretch = height * width * rng.uniform(*area), np.exp(rng.uniform(-0.5, 0.5))
    h, w = (min(side, max(1, round(np.sqrt(part) * s))) for side, s in ((height, stretch), (width, 1 / stretch)))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    image = image.copy()
    image[y : y + h, x : x + w] = np.asarray(fill).round().astype(np.uint8)
    return image
