"""Images -> class activation maps: summed over classes to one saliency map per image (run), or those of the classes
that an image is known to have (run_classes).

Reads   run: the images of --sal_dataset_dir, weights (net/weights.py)
        run_classes: the images of the set and their classes (step/sets.py), RESULT_DIR/ckpt/seam.pth
Writes  run: RESULT_DIR/cam/<stem>.png, 8-bit gray at the image's own size
        run_classes: RESULT_DIR/cam/<name>.npz: keys (P,), classes from 0; cam (P,H,W) uint8; scale: to 0..1
Paper   generatePGT (MFNet, ICCV 2021); Ahn et al., CVPR 2019 (multi-scale inference); SEAM (CVPR 2020), whose PCM
        revises the maps of run_classes
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from misc.errors import InputError
from misc.files.download import sha256_of
from misc.files.held import Held
from misc.files.images import at_most, image_size, limit_side, read_image
from misc.files.store import write_cams, write_png
from misc.run.device import autocast, batch_size_for, pick_device
from misc.run.each import Batches, Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from net import CAMNet, Network, SEAMNet, for_inference
from net.weights import load, read_checkpoint
from pgt.cam import class_power, multi_scale_saliency, present_class_cam
from step.sets import open_all, open_images


@dataclass(frozen=True)
class Work:
    """A picture to be mapped: its pixels at inference size (H,W,3) uint8, its own size (H, W), and its classes."""

    image: np.ndarray
    size: tuple[int, int]
    keys: tuple[int, ...] = ()


def run(args: Args, failures: Failures) -> None:
    images = open_images(args).images
    out_dir = args.cam_out_dir or args.result_dir / "cam"
    weights = args.cam_weights_dir or trained_here(args)
    net, sha256 = load(args.cam_network, weights, args.result_dir / "weights", not args.quiet)
    power = class_power(net, args.cam_class_power)

    def maps(fast: Network, works: Sequence[Work]) -> list[list[Write]]:
        found = multi_scale_saliency(fast, [work.image for work in works], args.cam_scales, power)
        return [[partial(write_png, array=to_png(s, w.size))] for s, w in zip(found, works, strict=True)]

    items = [Item(file, (out_dir / f"{stem}.png",), (file,)) for stem, file in images.items()]
    source = {"weights": weights, "sha256": sha256}
    make_maps(net, source, {"power": power}, items, maps, args.cam_infer_batch_size, args, failures)


def run_classes(args: Args, failures: Failures) -> None:
    images = open_all(args)
    out_dir = args.result_dir / "cam"
    net, path = read_cam_network(args, images.class_names)

    def maps(fast: Network, works: Sequence[Work]) -> list[list[Write]]:
        found = [own_maps(fast, work, args.cam_scales) for work in works]
        return [[partial(write_cams, keys=np.array(w.keys), cam=c)] for c, w in zip(found, works, strict=True)]

    items = [
        Item(file, (out_dir / f"{name}.npz",), (file,), facts={"keys": np.flatnonzero(label).tolist()})
        for file, name, label in zip(images.files, images.names, images.labels, strict=True)
    ]
    make_maps(net, {"weights": path, "sha256": sha256_of(path)}, {}, items, maps, 1, args, failures)


def make_maps(
    net: Network,
    source: dict,
    settings: dict,
    items: Sequence[Item],
    maps: Callable[[Network, Sequence[Work]], list[list[Write]]],
    batch_size: int,
    args: Args,
    failures: Failures,
) -> None:
    """maps(network, works) -> what is to be written of each; source: weights, a file or address, and their sha256;
    settings: whatever the maps depend on besides the network, the flags that both kinds have, the item's facts."""
    device = pick_device(args.device)
    facts = {k: v for k, v in asdict(net.facts).items() if k != "class_names"}
    settings = {**facts, "weights": source["sha256"], **settings, "scales": args.cam_scales, "max_side": args.max_side}
    fast = for_inference(net.to(device))

    def read(item: Item, data: Sequence[Held]) -> Work:
        image = read_image(data[0])
        return Work(at_most(image, args.max_side), image.shape[:2], tuple(item.facts.get("keys", ())))

    def compute(works: Sequence[Work]) -> list[list[Write]]:
        with autocast(device):
            return maps(fast, works)

    batches = Batches(compute, batch_size_for(device, batch_size), lambda work: work.image.shape)
    facts, items = {"network": net.facts.network, **source}, largest_first(items, args.max_side)
    each("make_cam", items, settings, read, args, failures, what="maps", batches=batches, key="cam", facts=facts)


def trained_here(args: Args) -> str | None:
    """The network that train_cam left in RESULT_DIR."""
    path = args.result_dir / "ckpt" / "cam.pth"
    if not path.is_file():
        return None
    print(f"make_cam: weights of {path}")
    return str(path)


def read_cam_network(args: Args, class_names: tuple[str, ...]) -> tuple[Network, Path]:
    """-> a network with maps of these classes, and its file. Raises InputError for another one."""
    path: Path = args.cam_weights or args.result_dir / "ckpt" / "seam.pth"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run train_seam, or give --cam_weights")
    net = read_checkpoint(path)
    if not isinstance(net, (CAMNet, SEAMNet)) or net.facts.num_classes != len(class_names):
        found = f"{net.facts.head} network of {net.facts.num_classes} classes"
        raise InputError(f"{path} holds a {found}; needed is a CAM network of the {len(class_names)} of the data set")
    if net.facts.class_names and net.facts.class_names != class_names:
        raise InputError(f"{path} was trained on other classes than the data set's, or in another order")
    return net, path


def own_maps(net: Network, work: Work, scales: Sequence[float]) -> np.ndarray:
    """-> the maps (P,H,W) in [0,1] of the picture's classes; one without a class has P = 0."""
    if not work.keys:
        return np.zeros((0, *work.size), np.float32)
    keys = torch.tensor(work.keys, device=net.device)
    return present_class_cam(net, work.image, keys, scales, work.size).cpu().numpy()


def to_png(saliency: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """saliency (h,w) in [0,1] -> uint8 of this size (H, W), bilinear."""
    full = cv2.resize(saliency.float().cpu().numpy(), size[::-1], interpolation=cv2.INTER_LINEAR)
    np.multiply(full, 255, out=full)  # in place: of a large photograph each copy is a gigabyte
    return np.rint(full, out=full).astype(np.uint8)


def largest_first(items: Sequence[Item], max_side: int) -> list[Item]:
    """By the size at inference: whoever runs out of memory does so at once, what the first image took is enough for all
    others, and images of one size, which make a batch, follow each other."""

    def order(item: Item) -> tuple:
        height, width = limit_side(image_size(item.source), max_side)
        return -height * width, height, item.outs

    return sorted(items, key=order)
