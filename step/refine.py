"""What make_label and make_slic share: every image with its map -> a label, by several workers, resumable.

Torch is loaded where a device takes part, and not before: it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from misc.files.held import Held
from misc.files.images import at_most, at_size, read_gray, read_image, read_levels, to_8_bit
from misc.files.listing import list_pictures, matched
from misc.files.store import write_png
from misc.run.driver import may_refine
from misc.run.each import Batches, Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from pgt.crf import CRFParams
from step.sets import largest_first

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Refiner:
    """image (H,W,3) uint8 RGB and map (H,W) uint8 -> label (H,W) uint8. any_size: a map that is smaller than its image
    comes as it is in its file, (h,w) uint8 or uint16; else as large as the image.

    one(image, map): on the CPU. The same on a device: prepare(image, map), in threads, and finish(images, what was
    prepared of them, device), of images of one size together -> their labels; None where a device has no part in it.
    """

    one: Callable[[np.ndarray, np.ndarray], np.ndarray]
    prepare: Callable[[np.ndarray, np.ndarray], np.ndarray]
    finish: Callable[[Sequence[np.ndarray], Sequence[np.ndarray], torch.device], Sequence[np.ndarray]] | None
    any_size: bool = False


@dataclass(frozen=True)
class Prepared:
    """An image at --max_side, what was prepared of it, and the size (H, W) of its label."""

    image: np.ndarray
    part: np.ndarray
    size: tuple[int, int]


def refine_folder(
    step: str,
    key: str,
    images: Mapping[str, Path],
    cam_dir: Path,
    out_dir: Path,
    refiner: Refiner,
    settings: Sequence[object],
    args: Args,
    failures: Failures,
) -> None:
    """Writes out_dir/<stem>.png for every image that has not failed before.

    key: the name of their record (misc/run/records.py). refiner sees image and map at --max_side at most; the label is
    brought back to the image's own size. settings: parts of the fingerprint besides both files.
    """
    finish = refiner.finish
    device = refining_device(args) if finish else None

    def make(item: Item, data: Sequence[Held]) -> Prepared | list[Write]:
        image = read_image(data[0])
        try:
            held = read_gray(data[1])
            cam = at_size(held, image.shape[:2])
            as_it_is = read_levels(data[1]) if refiner.any_size and held.shape != cam.shape else None
        except OSError as e:
            raise OSError(f"its map {data[1].path} cannot be read: {e}") from e
        except ValueError as e:
            raise OSError(f"its map {data[1].path} {e}") from e
        seen = at_most(image, args.max_side), at_most(cam, args.max_side) if as_it_is is None else as_it_is
        if device:
            return Prepared(seen[0], refiner.prepare(*seen), cam.shape)
        return to_write(refiner.one(*seen), cam.shape)

    def compute(group: Sequence[Prepared]) -> list[list[Write]]:
        labels = finish([one.image for one in group], [one.part for one in group], device)
        return [to_write(label, one.size) for label, one in zip(labels, group, strict=True)]

    listed = args.at_shard is None and cam_dir.is_dir()  # of a shard, maps are found by their whole names
    maps = matched(images, list_pictures(cam_dir, "the maps").files) if listed else {}
    items = [
        Item(file, (out_dir / f"{stem}.png",), (file, maps.get(stem, cam_dir / f"{stem}.png")), "make_cam")
        for stem, file in images.items()
    ]
    parts = [tuple(settings)]
    key_of = lambda one: (one.image.shape, one.part.shape, one.part.dtype)  # noqa: E731
    batches = batches_on(device, compute, key_of, args.max_side)
    each(step, items, lambda _: parts, make, args, failures, key=key, batches=batches)


def refine_one(
    refiner: Refiner, image: np.ndarray, cam: np.ndarray, max_side: int, device: torch.device | None
) -> np.ndarray:
    """What refine_folder writes of one image (H,W,3) and its map, as make_cam writes it -> label (H,W) uint8."""
    held = cam if cam.dtype == np.uint8 else to_8_bit(cam)
    whole = at_size(held, size := image.shape[:2])
    as_it_is = refiner.any_size and held.shape != size
    seen = at_most(image, max_side), cam if as_it_is else at_most(whole, max_side)
    if refiner.finish is None or device is None:
        return at_full_size(refiner.one(*seen), size)
    return at_full_size(refiner.finish(seen[:1], [refiner.prepare(*seen)], device)[0], size)


def at_full_size(label: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """label (h,w) uint8 -> of the size (H, W) of its image."""
    return cv2.resize(label, size[::-1], interpolation=cv2.INTER_LINEAR)


def to_write(label: np.ndarray, size: tuple[int, int]) -> list[Write]:
    return [partial(write_png, array=at_full_size(label, size))]


def refining_device(args: Args) -> torch.device | None:
    """The device that refines, None where the CPU's cores do."""
    if not may_refine(args.device):
        return None
    from misc.run.device import facts_of, pick_device

    device = pick_device(args.device, args.deterministic)
    return device if facts_of(device).refines else None


def batches_on(
    device: torch.device | None, compute: Callable[[Sequence[Any]], Iterable[Sequence[Write]]], key: Callable,
    max_side: int,
) -> Batches | None:  # fmt: skip
    """How a device takes part in a pass, the largest images first; None without one."""
    if device is None:
        return None
    from misc.run.device import batch_size_for, out_of_memory

    def within(group: Sequence[Any]) -> list[Sequence[Write]]:
        with out_of_memory("lower --max_side"):
            return [*compute(group)]

    return Batches(within, batch_size_for(device, 0), key, order=partial(largest_first, max_side=max_side))


def planes_on(device: torch.device, images: Sequence[np.ndarray]) -> torch.Tensor:
    """Images (H,W,3) uint8 of one size -> (N,3,H,W) on the device."""
    return on(device, images).permute(0, 3, 1, 2)


def on(device: torch.device, arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Arrays of one shape -> a batch on the device."""
    import torch

    return torch.from_numpy(np.stack(arrays)).to(device)


def crf_on(
    device: torch.device, images: Sequence[np.ndarray], energies: Sequence[np.ndarray], params: CRFParams
) -> np.ndarray:
    """Images (H,W,3) uint8 of one size and their energies (C,H,W) -> marginals (N,C,H,W) of a CRF on the device."""
    from pgt.crf import mean_field_torch

    return mean_field_torch(planes_on(device, images), on(device, energies), params).cpu().numpy()


def to_uint8(saliency: np.ndarray, binary: float | None = None) -> np.ndarray:
    """saliency (H,W) in [0,1] -> uint8, 0..255; 0 and 255 where binary, a threshold in [0,1], is given."""
    if binary is not None:
        saliency = saliency >= binary
    return (np.clip(saliency, 0, 1) * 255).round().astype(np.uint8)
