"""Random changes of colours, done to a whole batch on the device that trains: the threads that read only say what.

What is done to an image are steps, rows (factor, level, share, turn, saturation, value): its colours move away from
level + share * their gray by this factor; then their hue turns by degrees, and saturation (0..1) and value (0..255)
are raised. The draws are those of misc.train.augment, and so is the result, to within rounding.
"""

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from misc.train.augment import GRAY, change_colors, draw_color_jitter, draw_hsv_jitter

_SMALL = (96, 96)  # tells the mean gray, which contrast turns around, to half a level


def color_jitter_steps(image: np.ndarray, strength: float, hue: float, rng: Generator) -> np.ndarray:
    """image (H,W,3) uint8, the whole of it -> (S,6) float32, which do to any part of it what color_jitter does."""
    x = cv2.resize(image, _SMALL, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    rows = []
    for kind, value in draw_color_jitter(strength, hue, rng):
        level = float((x @ GRAY).mean()) if kind == 1 else 0.0
        rows.append((1, 0, 0, value, 0, 0) if kind == 3 else (value, level, kind == 2, 0, 0, 0))
        x = change_colors(x, kind, value)
    return np.array(rows, np.float32).reshape(-1, 6)


def hsv_jitter_steps(strength: int, rng: Generator) -> np.ndarray:
    """-> (S,6) float32, which do what hsv_jitter does, without rounding hue, saturation and value to 8 bits."""
    rows = [(1, 0, 0, 2 * h, s / 255, v) for h, s, v in draw_hsv_jitter(strength, rng).tolist()]
    return np.array(rows, np.float32).reshape(-1, 6)


def recolored(image: Tensor, steps: Tensor, inside: Tensor) -> Tensor:
    """image (N,3,H,W) uint8, steps (N,S,6), inside (N,H,W), 0 where the image is fill, which stays -> as image."""
    x = image.float()
    for step in steps.unbind(1):
        factor, level, share, turn, saturation, value = step.T[..., None, None, None]
        r, g, b = x.split(1, 1)
        other = level + share * (float(GRAY[0]) * r + float(GRAY[1]) * g + float(GRAY[2]) * b)
        x = _moved((other + factor * (x - other)).clamp(0, 255), turn, saturation, value)
    return torch.where(inside[:, None] > 0, x.round().to(image.dtype), image)


def _moved(x: Tensor, turn: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """x (N,3,H,W) RGB in 0..255, moved in HSV by (N,1,1,1) each."""
    r, g, b = x.split(1, 1)
    top = x.amax(1, keepdim=True)
    chroma = top - x.amin(1, keepdim=True)
    rest = chroma.clamp(min=1e-6)
    hue = torch.where(top == r, (g - b) / rest, torch.where(top == g, 2 + (b - r) / rest, 4 + (r - g) / rest))
    hue = hue + turn / 60  # of the six sectors
    s = (chroma / top.clamp(min=1e-6) + saturation).clamp(0, 1)
    top = (top + value).clamp(0, 255)
    k = (hue + torch.arange(5, 0, -2, device=x.device).view(1, 3, 1, 1)) % 6
    return top * (1 - s * torch.minimum(k, 4 - k).clamp(0, 1))
