"""Random changes of training images. Pure functions of an image and a numpy Generator: the same draws, the same bytes.

Images are (H,W,3) uint8 RGB. What lies beyond an image's border is filled with a colour, the mean of the network's
data, so that it is 0 after normalisation.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.random import Generator


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
        window[:] = np.asarray(fill).round().astype(array.dtype) if array.dtype.kind == "u" else fill
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
    return [array[:, ::-1] for array in arrays] if rng.random() < 0.5 else list(arrays)


def color_jitter(image: np.ndarray, strength: float, hue: float, rng: Generator) -> np.ndarray:
    """Brightness, contrast and saturation by factors of 1 +- strength, in an order drawn; hue turned by up to +- hue of
    the circle (torchvision's ColorJitter(strength, strength, strength, hue))."""
    x = image.astype(np.float32)
    for kind in rng.permutation(4 if hue else 3):
        if kind == 3:
            hsv = cv2.cvtColor(x / 255, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0] + 360 * rng.uniform(-hue, hue)) % 360
            x = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
            continue
        factor = np.float32(rng.uniform(1 - strength, 1 + strength))
        gray = x @ np.float32([0.299, 0.587, 0.114])
        other = (np.float32(0), gray.mean(), gray[..., None])[kind]
        x = np.clip(other + factor * (x - other), 0, 255)
    return x.round().astype(np.uint8)


def hsv_jitter(image: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    """Hue (0..179), saturation and value (0..255) moved by a whole number of up to +- strength each (SEAM's and HFPL's
    RandomHSV)."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV) + rng.integers(-strength, strength + 1, 3, dtype=np.int16)
    hsv[..., 0] %= 180
    return cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


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
