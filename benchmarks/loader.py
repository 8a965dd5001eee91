"""python -m benchmarks.loader [--images FOLDER] [--rounds 7] [--rate 80]

Run it from the root of the repository, with OMP_NUM_THREADS=1. What one thread reads and changes for train_seam and
train_seg in a second, from the files to the arrays of a sample, by the published recipes and in three ways, in turn:

plain   numpy all the way: a new array per operation, the window filled pixel by pixel
cpu     as the trainings do on a CPU, the same bytes
gpu     as they do where the device changes the colours; large JPEGs are decoded at part of their size

Pictures of VOC's usual size, 500 x 375, and one of 12 megapixels (they, side by side), made of the sample photographs
or of the first 64 in a folder. Processor time of one thread, medians of the rounds and of their ratios. cores: how many
read for a device that takes this rate of images/s. Last, how far a picture decoded at part of its size is from whole.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image, ImageOps

import run_voc
from benchmarks.peers import pictures
from data.datasets import get_dataset
from misc.files.images import read_image
from misc.run.evaluation import exit_status
from misc.run.memory import settle_memory
from misc.train.augment import random_resize_long, resize
from step import train_seam, train_seg

SPEC = get_dataset("voc12")
FILL = (123.675, 116.28, 103.53)
SEAM, SEG = run_voc.Seam(), run_voc.Seg()
Sample = Callable[[Path, Generator], Sequence[np.ndarray]]


def plain_read(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def plain_flip(arrays: Sequence[np.ndarray], rng: Generator) -> list[np.ndarray]:
    return [array[:, ::-1] for array in arrays] if rng.random() < 0.5 else list(arrays)


def plain_crop(arrays: Sequence[np.ndarray], crop: int, fills: Sequence, rng: Generator) -> list[np.ndarray]:
    places, windows = [], []
    for side in arrays[0].shape[:2]:
        start, length = int(rng.integers(0, abs(crop - side) + 1)), min(crop, side)
        moved, whole = slice(start, start + length), slice(0, length)
        places.append((moved, whole) if crop > side else (whole, moved))
    for array, fill in zip(arrays, fills, strict=True):
        window = np.empty((crop, crop, *array.shape[2:]), array.dtype)
        window[:] = np.asarray(fill).round().astype(array.dtype)
        window[places[0][0], places[1][0]] = array[places[0][1], places[1][1]]
        windows.append(window)
    return windows


def plain_color_jitter(image: np.ndarray, strength: float, hue: float, rng: Generator) -> np.ndarray:
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


def plain_hsv_jitter(image: np.ndarray, strength: int, rng: Generator) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV) + rng.integers(-strength, strength + 1, 3, dtype=np.int16)
    hsv[..., 0] %= 180
    return cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)


def plain_seam(file: Path, rng: Generator) -> list[np.ndarray]:
    (image,) = plain_flip([random_resize_long(plain_read(file), *SEAM.long_side, rng)], rng)
    return plain_crop([plain_color_jitter(image, SEAM.jitter, SEAM.hue, rng)], SEAM.crop_size, [FILL], rng)


def our_seam(file: Path, rng: Generator, spares: bool = False) -> list[np.ndarray]:
    image = read_image(file, max(SEAM.long_side) if spares else 0)
    return train_seam.augmented(image, SEAM, FILL, rng, spares)


def plain_seg(file: Path, rng: Generator) -> list[np.ndarray]:
    image = plain_hsv_jitter(plain_read(file), SEG.hsv_jitter, rng)
    image, label = plain_flip([image, read_label(file, image)], rng)
    scale = rng.uniform(*SEG.scale)
    size = tuple(round(side * scale) for side in label.shape)
    label = cv2.resize(np.ascontiguousarray(label), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return plain_crop([resize(np.ascontiguousarray(image), size), label], SEG.crop_size, [FILL, SPEC.ignore], rng)


def our_seg(file: Path, rng: Generator, spares: bool = False) -> list[np.ndarray]:
    image = read_image(file)
    return train_seg.augmented(image, read_label(file, image), SEG, FILL, SPEC.ignore, rng, spares)


def read_label(file: Path, image: np.ndarray) -> np.ndarray:
    return train_seg.read_pseudo_label(file.with_suffix(".png"), image.shape[:2], SPEC)


def ways_of(plain: Sample, ours: Callable) -> dict[str, Sample]:
    return {"plain": plain, "cpu": ours, "gpu": lambda file, rng: ours(file, rng, spares=True)}


def write_pictures(folder: Path, files: Sequence[Path]) -> tuple[list[Path], Path]:
    """-> pictures of 500 x 375 with a label of a few regions each, and one of 4000 x 3000."""
    images = [cv2.resize(read_image(file), (500, 375), interpolation=cv2.INTER_AREA) for file in files]
    paths = [folder / f"{i}.jpg" for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path, quality=92)
        Image.fromarray(cv2.blur(image, (31, 31))[..., 1] // 64).save(path.with_suffix(".png"))
    rows = [np.concatenate([images[(8 * y + x) % len(images)] for x in range(8)], 1) for y in range(8)]
    Image.fromarray(np.concatenate(rows)).save(folder / "large.jpg", quality=92)
    return paths, folder / "large.jpg"


def seconds_per_image(way: Sample, files: Sequence[Path], turn: int) -> float:
    started = time.thread_time()
    for i, file in enumerate(files):
        way(file, np.random.default_rng((turn, i)))
    return (time.thread_time() - started) / len(files)


def measure(name: str, ways: dict[str, Sample], files: Sequence[Path], rounds: int, rate: float) -> None:
    turns = [{way: seconds_per_image(fn, files, turn) for way, fn in ways.items()} for turn in range(rounds + 1)]
    for way in ways:
        seconds = statistics.median(turn[way] for turn in turns[1:])  # the first warms up
        ratio = statistics.median(turn["plain"] / turn[way] for turn in turns[1:])
        print(
            f"{name:22} {way:6} {1000 * seconds:7.2f} ms {1 / seconds:7.0f} images/s {ratio:5.1f} times as fast, "
            f"{rate * seconds:5.2f} cores for {rate:g} images/s"
        )


def tell_what_is_lost(file: Path) -> None:
    """Of a JPEG that is decoded at part of its size."""
    whole, part = read_image(file), read_image(file, max(SEAM.long_side))
    for width in (448, 608, 768):
        a, b = (resize(image, (width * 3 // 4, width)).astype(int) for image in (whole, part))
        print(f"decoded at {part.shape[1]} of {whole.shape[1]}, at {width}: {np.abs(a - b).mean():.2f} grey levels off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="pictures; none: the sample photographs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=80)
    args = parser.parse_args()
    settle_memory()
    cv2.setNumThreads(1)  # as in a training
    seam, seg = ways_of(plain_seam, our_seam), ways_of(plain_seg, our_seg)
    with tempfile.TemporaryDirectory() as folder:
        files, large = write_pictures(Path(folder), list(pictures(args.images, "--images").values())[:64])
        measure("train_seam, 500x375", seam, files, args.rounds, args.rate)
        measure("train_seg, 500x375", seg, files, args.rounds, args.rate)
        measure("train_seam, 4000x3000", seam, [large], args.rounds, args.rate)
        tell_what_is_lost(large)


if __name__ == "__main__":
    sys.exit(exit_status(main))
