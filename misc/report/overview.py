"""Results as pictures: a map or label over its image, an object cut out, and one picture of many results, a row per
image, a column each for image, map, labels and mask."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP, _HEAD = 6, 26


def cam_overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (H,W) uint8 -> (H,W,3) uint8: the map in colours over the image."""
    colours = cv2.cvtColor(cv2.applyColorMap(cam, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 0.45, colours, 0.55, 0)


def label_overlay(image: np.ndarray, label: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """image (H,W,3) uint8 RGB, label (H,W) with 0 outside, palette (256,3) uint8 -> (H,W,3) uint8: the label's colours
    over the image, its borders in bright ones."""
    peak = palette.max(axis=1, keepdims=True).clip(1)
    colours = (palette.astype(np.float32) * 255 / peak).astype(np.uint8)[label & 255]
    drawn = np.where((label > 0)[..., None], cv2.addWeighted(image, 0.6, colours, 0.4, 0), image)
    width = max(3, round(max(label.shape) / 250) | 1)
    ids = label.astype(np.uint16)
    border = (cv2.erode(ids, np.ones((width, width), np.uint8)) != ids) & (label > 0)
    drawn[border] = colours[border]
    return drawn


def cutout(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """image (H,W,3) uint8 RGB, inside (H,W) bool -> (H,W,4) uint8 RGBA, transparent outside."""
    return np.dstack([image, np.full(inside.shape, 255, np.uint8)]) * inside[..., None]


def contact_sheet(rows: Sequence[Mapping[str, np.ndarray]], height: int = 150) -> np.ndarray:
    """rows: title -> picture (H,W,3) or (H,W) uint8, the pictures of a row of one size -> one (h,w,3) uint8 picture.

    A title that a row lacks leaves its cell empty. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    titles = list(dict.fromkeys(title for row in rows for title in row))
    widths = [max(1, round(height * max(p.shape[1] / p.shape[0] for p in row.values()))) for row in rows]
    cell = min(max(widths), 3 * height)
    size = ((cell + _GAP) * len(titles) + _GAP, _HEAD + (height + _GAP) * len(rows))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for x, title in enumerate(titles):
        draw.text((_GAP + x * (cell + _GAP) + cell // 2, _HEAD // 2), title, fill="black", font=font, anchor="mm")
    for y, row in enumerate(rows):
        for title, picture in row.items():
            tile = _fit(picture, cell, height)
            left = _GAP + titles.index(title) * (cell + _GAP) + (cell - tile.width) // 2
            sheet.paste(tile, (left, _HEAD + y * (height + _GAP) + (height - tile.height) // 2))
    return np.asarray(sheet)


def _fit(picture: np.ndarray, width: int, height: int) -> Image.Image:
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return Image.fromarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)).convert("RGB")
