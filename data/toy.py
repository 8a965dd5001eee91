"""A toy set in VOC's layout, made by code: what weakly supervised segmentation is up against, at 100 pixels.

An object has a small bright head, which tells its class at once, and a large dull body: two classes share a texture,
all share colours, and the outlines are alike. A classifier looks at heads; its maps become masks only if something
draws them over the bodies. Backgrounds are cluttered with things of no class, and some classes keep company.

    write_toy(Path("result/toy"), num_train=240, num_val=60)
"""

from __future__ import annotations

import colorsys
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data import voc12
from misc.errors import InputError
from misc.files.labels import write_mask
from misc.files.store import read_json, replacing, write_json, write_text

_VERSION = 1  # of the pictures: another one is another set
_SIDES = 104, 128  # pixels, shortest and longest
_RADII = 20, 38  # pixels, of bodies
_HEAD = 0.32  # radius of heads, in radii of bodies


@dataclass(frozen=True)
class Kind:
    """A class. Its outline has lobes of some depth and is squashed to a height; texture of the body: see _texture;
    head: hues of its disc and of what is drawn on it, in degrees."""

    name: str
    lobes: int
    depth: float
    height: float
    texture: str
    head: tuple[int, int]
    mark: str


KINDS = (
    Kind("bean", 1, 0.12, 0.70, "stripes", (0, 60), "ring"),
    Kind("drum", 4, 0.08, 0.75, "stripes", (220, 180), "bar"),
    Kind("petal", 3, 0.14, 0.85, "dots", (120, 300), "ring"),
    Kind("kite", 4, 0.14, 0.85, "dots", (300, 60), "bar"),
    Kind("gear", 7, 0.09, 0.80, "rings", (40, 240), "ring"),
    Kind("leaf", 2, 0.10, 0.65, "rings", (180, 0), "bar"),
)
CLASS_NAMES = tuple(kind.name for kind in KINDS)


@dataclass(frozen=True)
class Scene:
    """image (H,W,3) uint8 RGB; label (H,W) uint8 as in VOC's masks; heads (H,W) bool, what of the objects is head;
    objects: (label, box x0, y0, x1, y1, ends excluded) of what can be seen of each."""

    image: np.ndarray
    label: np.ndarray
    heads: np.ndarray
    objects: tuple[tuple[int, tuple[int, int, int, int]], ...]


def write_toy(root: Path, num_train: int = 240, num_val: int = 60, seed: int = 0) -> Path:
    """Makes the set in root, which is returned: JPEGImages, Annotations, SegmentationClass, ImageSets/Segmentation,
    class_names.txt. A set of these numbers that is there stays. The same seed gives the same pictures.

    Raises InputError where root holds something else.
    """
    facts = {"toy": _VERSION, "num_train": num_train, "num_val": num_val, "seed": seed}
    done = root / "toy.json"
    if read_json(done) == facts:
        return root
    if root.exists() and any(root.iterdir()):
        if "toy" not in read_json(done):
            raise InputError(f"{root}: holds something else than a toy set; choose an empty folder")
        for folder in {voc12.IMAGES, voc12.ANNOTATIONS, "ImageSets", str(voc12.SPEC.mask_dir)}:
            shutil.rmtree(root / folder, ignore_errors=True)
    write_json(done, {"toy": "begun"})
    names = [f"toy_{i:05d}" for i in range(num_train + num_val)]
    for i, name in enumerate(names):
        _write_scene(root, name, draw_scene(np.random.default_rng([seed, i])))
    for split, part in {"train": names[:num_train], "val": names[num_train:], "trainval": names}.items():
        write_text(root / voc12.SPEC.lists[split], "".join(f"{name}\n" for name in part))
    write_text(root / "class_names.txt", "".join(f"{name}\n" for name in CLASS_NAMES))
    write_json(done, facts)
    return root


def _write_scene(root: Path, name: str, scene: Scene) -> None:
    with replacing(root / voc12.IMAGES / f"{name}.jpg") as part:
        Image.fromarray(scene.image).save(part, format="JPEG", quality=95)
    write_mask(root / str(voc12.SPEC.mask_dir) / f"{name}.png", scene.label)
    objects = "".join(
        f"  <object>\n    <name>{CLASS_NAMES[label - 1]}</name>\n    <bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>\n  </object>\n"
        for label, (x0, y0, x1, y1) in scene.objects
    )
    height, width = scene.label.shape
    size = f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
    text = f"<annotation>\n  <filename>{name}.jpg</filename>\n{size}{objects}</annotation>\n"
    write_text(root / voc12.ANNOTATIONS / f"{name}.xml", text)


def draw_scene(rng: np.random.Generator) -> Scene:
    """One picture with one to three objects."""
    height, width = (int(side) for side in rng.integers(_SIDES[0], _SIDES[1] + 1, 2))
    image = _clutter(rng, height, width)
    owner = np.zeros((height, width), np.uint8)  # 1, 2, ... in the order of drawing
    heads = np.zeros((height, width), bool)
    labels = _choose_labels(rng)
    poses = _choose_poses(rng, len(labels), height, width)
    labels = labels[: len(poses)]
    for i, (label, pose) in enumerate(zip(labels, poses, strict=True), 1):
        body, head = _draw_object(rng, image, KINDS[label - 1], pose)
        owner[body | head] = i
        heads = (heads & ~body) | head
    objects = tuple((label, _box(owner == i)) for i, label in enumerate(labels, 1))
    image = np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    label = np.array([0, *labels], np.uint8)[owner]
    kernel = np.ones((3, 3), np.uint8)
    label[cv2.dilate(owner, kernel) != cv2.erode(owner, kernel)] = voc12.SPEC.ignore  # a pixel on either side
    return Scene(image, label, heads, objects)


def _choose_labels(rng: np.random.Generator) -> list[int]:
    """Every other companion of the first is the usual one."""
    num = len(KINDS)
    first = int(rng.integers(num))
    others = [(first + 2) % num if rng.random() < 0.5 else int(rng.integers(num)) for _ in range(2)]
    return [label + 1 for label in [first, *others][: int(rng.choice(3, p=(0.35, 0.45, 0.2))) + 1]]


@dataclass(frozen=True)
class _Pose:
    """Centre and radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float


def _choose_poses(rng: np.random.Generator, num: int, height: int, width: int) -> list[_Pose]:
    """As many as find room: they touch, but hide little of each other."""
    poses: list[_Pose] = []
    for _ in range(40):
        radius = rng.uniform(*_RADII)
        x, y = (rng.uniform(0.8 * radius, side - 0.8 * radius) for side in (width, height))
        if len(poses) < num and all(np.hypot(x - p.x, y - p.y) > 0.9 * (radius + p.radius) for p in poses):
            poses.append(_Pose(x, y, radius, rng.uniform(0, 2 * np.pi)))
    return poses


def _draw_object(rng, image: np.ndarray, kind: Kind, pose: _Pose) -> tuple[np.ndarray, np.ndarray]:
    """Paints it into image (H,W,3) float32; -> what of the picture is body and head, (H,W) bool each."""
    u, v = _local(pose, image.shape[:2], kind.height)
    distance, angle = np.hypot(u, v), np.arctan2(v, u)
    outline = 1 + kind.depth * np.cos(kind.lobes * angle)
    body = _blend(image, (outline - distance) * pose.radius, _textured(rng, kind.texture, u, v))
    head_u, head_v = (u - 0.78) / _HEAD, v * kind.height / _HEAD
    disc, mark = (_rgb(hue, 0.9, 0.95) for hue in kind.head)
    from_head = np.hypot(head_u, head_v)
    head = _blend(image, (1 - from_head) * _HEAD * pose.radius, disc)
    inner = 0.22 - np.abs(from_head - 0.5) if kind.mark == "ring" else np.minimum(0.3 - np.abs(head_v), 0.8 - from_head)
    _blend(image, inner * _HEAD * pose.radius, mark)
    return body, head


def _local(pose: _Pose, shape: tuple[int, int], squash: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (H,W) along the object and across it, 1 at its outline."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    u = ((x - pose.x) * cos + (y - pose.y) * sin) / pose.radius
    v = ((y - pose.y) * cos - (x - pose.x) * sin) / pose.radius
    return u.astype(np.float32), (v / squash).astype(np.float32)


def _blend(image: np.ndarray, depth: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Paints, with soft edges, where depth (pixels from the outline inwards) is above 0; -> where that is, bool."""
    alpha = np.clip(depth + 0.5, 0, 1)[..., None].astype(np.float32)
    image += alpha * (colour - image)
    return depth > 0


_TEXTURES = {
    "stripes": lambda u, v: np.sin(9 * u),
    "dots": lambda u, v: 1.6 * np.sin(8 * u) * np.sin(8 * v),
    "rings": lambda u, v: np.sin(11 * np.hypot(u, v)),
    "plain": lambda u, v: 0 * u,
    "grid": lambda u, v: 1.2 * np.maximum(np.sin(6 * u), np.sin(6 * v)) - 0.5,
    "waves": lambda u, v: np.sin(7 * v + 2 * np.sin(4 * u)),
}


_OF_THINGS = ("plain", "grid", "waves")  # the others are of bodies


def _textured(rng, texture: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A dull colour (H,W,3), lighter and darker by the texture."""
    base = _rgb(rng.uniform(0, 360), rng.uniform(0.15, 0.45), rng.uniform(0.35, 0.75))
    return base + rng.uniform(18, 34) * _TEXTURES[texture](u, v)[..., None]


def _clutter(rng, height: int, width: int) -> np.ndarray:
    """(H,W,3) float32: clouds of colour, and things of no class in the dull colours of bodies."""
    image = np.full((height, width, 3), _rgb(rng.uniform(0, 360), 0.2, rng.uniform(0.3, 0.8)), np.float32)
    for cells, strength in ((3, 30), (9, 18), (24, 12)):
        clouds = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        image += cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(3, 8))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        u, v = _local(_Pose(x, y, rng.uniform(6, 22), rng.uniform(0, 2 * np.pi)), image.shape[:2], rng.uniform(0.2, 1))
        corners = np.maximum(np.abs(u), np.abs(v)) if rng.random() < 0.5 else np.abs(u) + np.abs(v)
        _blend(image, (1 - corners) * 8, _textured(rng, rng.choice(_OF_THINGS), u, v))
    return image


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """Degrees, 0..1, 0..1 -> (3,) float32, 0..255."""
    return np.array(colorsys.hsv_to_rgb(hue / 360, saturation, value), np.float32) * 255


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
