"""Images -> class activation maps, summed over classes into one saliency map an image.

Reads   the images of --sal_dataset_dir; weights (net/weights.py)
Writes  RESULT_DIR/cam/<stem>.png, 8-bit gray at the image's own size
Paper   generatePGT (MFNet, ICCV 2021); Ahn et al., CVPR 2019 (multi-scale inference)
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path

import cv2
import numpy as np
import torch

from data.saliency import open_folder
from misc.files.images import image_size, limit_side, read_image
from misc.files.store import fingerprint, is_current, require_writable, write_png
from misc.run.device import autocast, batch_size_for, pick_device
from misc.run.parallel import prefetch, progress
from net import NetFacts, for_inference
from net.weights import load
from pgt.cam import class_power, multi_scale_saliency


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
    weights = args.cam_weights_dir or trained_here(args)
    net, weights_sha256 = load(args.cam_network, weights, args.result_dir / "weights", not args.quiet)
    power = class_power(net, args.cam_class_power)
    settings = _settings(net.facts, weights_sha256, power, args)
    net = for_inference(net.to(device))
    batch_size = batch_size_for(device, args.cam_infer_batch_size)

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

    stems = largest_first(images, args.max_side)
    reading = progress(prefetch(read, stems, 2 * batch_size), len(images), "make_cam", args.quiet)
    done = 0
    for batch in batches_of_one_size(readable(reading), batch_size):
        with autocast(device):
            maps = multi_scale_saliency(net, [work.image for work in batch], args.cam_scales, power)
        for work, saliency in zip(batch, maps, strict=True):
            write_png(work.out, _to_png(saliency, work.size), work.made_from)
        done += len(batch)
    print(f"make_cam: {done} maps made, {len(images) - done} kept or failed, in {out_dir}")


def trained_here(args) -> str | None:
    """The network that train_cam left in RESULT_DIR."""
    path = args.result_dir / "ckpt" / "cam.pth"
    if not path.is_file():
        return None
    print(f"make_cam: weights of {path}")
    return str(path)


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


def largest_first(images: Mapping[str, Path], max_side: int) -> list[str]:
    """Stems by the size at inference: whoever runs out of memory does so at once, what the first image took is enough
    for all others, and images of one size, which make a batch, follow each other."""
    sizes = {stem: limit_side(image_size(path), max_side) for stem, path in images.items()}
    return sorted(images, key=lambda stem: (-sizes[stem][0] * sizes[stem][1], sizes[stem], stem))


def batches_of_one_size(works: Iterable[Work], batch_size: int) -> Iterator[list[Work]]:
    """Neighbours of one size, at most batch_size of them."""
    for _, same in groupby(works, key=lambda work: work.image.shape):
        while batch := list(islice(same, batch_size)):
            yield batch
