"""Images -> class activation maps, summed over classes into one saliency map an image.

Reads   the images of --sal_dataset_dir; weights (net/weights.py)
Writes  RESULT_DIR/cam/<stem>.png, 8-bit gray at the image's own size
Paper   generatePGT (MFNet, ICCV 2021); Ahn et al., CVPR 2019 (multi-scale inference)
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from data.saliency import open_folder
from misc.cam import class_power, multi_scale_saliency
from misc.device import autocast, batch_size_for, keep_freed_memory, pick_device, return_freed_memory
from misc.images import limit_side, read_image
from misc.parallel import prefetch, progress
from misc.store import fingerprint, is_current, require_writable, write_png
from net import NetFacts, for_inference
from net.weights import load

_MEMORY_PERIOD = 4  # images after which freed memory goes back to the system


@dataclass(frozen=True)
class Work:
    """One image to be done: pixels at inference size, None where its map is up to date already."""

    out: Path
    made_from: str
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None


def run(args, failures) -> None:
    images = open_folder(args.sal_dataset_dir, args.limit).images
    device = pick_device(args.device)
    out_dir = args.cam_out_dir or args.result_dir / "cam"
    require_writable(out_dir)
    net, weights_sha256 = load(args.cam_network, args.cam_weights_dir, args.result_dir / "weights", not args.quiet)
    power = class_power(net, args.cam_class_power)
    settings = _settings(net.facts, weights_sha256, power, args)
    net = for_inference(net.to(device))
    keep_freed_memory()
    batch_size = batch_size_for(device, args.cam_batch_size)

    def read(stem: str) -> Work:
        data = images[stem].read_bytes()
        work = Work(out_dir / f"{stem}.png", fingerprint(data, settings))
        if not args.overwrite and is_current(work.out, work.made_from):
            return work
        image = read_image(io.BytesIO(data))
        return Work(work.out, work.made_from, image.shape[:2], _shrink(image, args.max_side))

    def readable(results) -> Iterator[Work]:
        for stem, work in results:
            if isinstance(work, OSError):
                failures.add("make_cam", images[stem], work)
            elif work.image is not None:
                yield work

    reading = progress(prefetch(read, list(images), 2 * batch_size), len(images), "make_cam", args.quiet)
    done = 0
    for batch in batches_of_one_size(readable(reading), batch_size):
        with autocast(device):
            maps = multi_scale_saliency(net, [work.image for work in batch], args.cam_scales, power)
        for work, saliency in zip(batch, maps, strict=True):
            write_png(work.out, _to_png(saliency, work.size), work.made_from)
        done += len(batch)
        if done // _MEMORY_PERIOD != (done - len(batch)) // _MEMORY_PERIOD:
            return_freed_memory()
    print(f"make_cam: {done} maps made, {len(images) - done} kept or failed, in {out_dir}")


def _settings(facts: NetFacts, weights_sha256: str, power: float, args) -> dict:
    """Whatever the maps depend on besides the image."""
    facts = {k: v for k, v in asdict(facts).items() if k != "class_names"}
    return {**facts, "weights": weights_sha256, "power": power, "scales": args.cam_scales, "max_side": args.max_side}


def _shrink(image: np.ndarray, max_side: int) -> np.ndarray:
    height, width = limit_side(image.shape[:2], max_side)
    return (
        cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        if image.shape[:2] != (height, width)
        else image
    )


def _to_png(saliency: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """saliency (h,w) in [0,1] -> uint8 of this size (H, W), bilinear."""
    full = cv2.resize(saliency.float().cpu().numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    return (full * 255).round().astype(np.uint8)


def batches_of_one_size(works: Iterable[Work], batch_size: int) -> Iterator[list[Work]]:
    """Groups images of one size; holds at most 4 batches back, so that memory does not grow with the folder."""
    waiting: dict[tuple[int, ...], list[Work]] = {}
    for work in works:
        group = waiting.setdefault(work.image.shape, [])
        group.append(work)
        if len(group) == batch_size:
            yield waiting.pop(work.image.shape)
        elif sum(map(len, waiting.values())) > 4 * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()
