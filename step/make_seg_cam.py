"""Images with image-level labels -> class activation maps of their own classes.

Reads   the images of the set (step/seg_set.py) and their classes; RESULT_DIR/ckpt/seam.pth, or --cam_weights
Writes  RESULT_DIR/cam/<name>.npz: keys (P,), classes from 0; cam (P,H,W) uint8; scale: cam * scale is in [0,1]
Paper   SEAM (CVPR 2020), whose PCM revises the maps; of other CAM networks the maps as they are
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from misc.errors import InputError
from misc.files.download import sha256_of
from misc.files.images import image_size, limit_side, read_image
from misc.files.store import fingerprint, is_current, require_writable, write_cams
from misc.run.device import autocast, pick_device
from misc.run.parallel import prefetch, progress
from net import CAMNet, Network, SEAMNet, for_inference
from net.weights import read_checkpoint
from pgt.cam import present_class_cam
from step.seg_set import open_all


@dataclass(frozen=True)
class Work:
    """One image to be done: its pixels at inference size and its own size; image None where its maps are up to date."""

    made_from: str
    size: tuple[int, int] = (0, 0)
    image: np.ndarray | None = None


def run(args, failures) -> None:
    images = open_all(args)
    device = pick_device(args.device)
    out_dir = args.result_dir / "cam"
    require_writable(out_dir)
    net, settings = load_network(args, images.class_names)
    net = for_inference(net.to(device))

    def read(i: int) -> Work:
        data = images.files[i].read_bytes()
        made_from = fingerprint(data, {**settings, "keys": np.flatnonzero(images.labels[i]).tolist()})
        if not args.overwrite and is_current(out_dir / f"{images.names[i]}.npz", made_from):
            return Work(made_from)
        image = read_image(io.BytesIO(data))
        size = limit_side(image.shape[:2], args.max_side)
        inner = image if size == image.shape[:2] else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
        return Work(made_from, image.shape[:2], inner)

    done, held = 0, 0
    for i, work in progress(prefetch(read, largest_first(images.files), 4), len(images), "make_cam", args.quiet):
        if isinstance(work, OSError):
            failures.add("make_cam", images.files[i], work)
        elif work.image is not None:
            path = out_dir / f"{images.names[i]}.npz"
            with autocast(device):
                keys, cam = label_cam(net, work, images.labels[i], args.cam_scales)
            write_cams(path, keys, cam, work.made_from)
            done, held = done + 1, held + path.stat().st_size
    size = f" of {held / done / 1000:.1f} kB" if done else ""
    print(f"make_cam: {done} maps{size} made, {len(images) - done} kept or failed, in {out_dir}")


def load_network(args, class_names: tuple[str, ...]) -> tuple[Network, dict]:
    """-> the network, and whatever the maps depend on besides the image and its classes."""
    path: Path = args.cam_weights or args.result_dir / "ckpt" / "seam.pth"
    if not path.is_file():
        raise InputError(f"{path}: no such file; run train_seam, or give --cam_weights")
    net = read_checkpoint(path)
    if not isinstance(net, (CAMNet, SEAMNet)) or net.facts.num_classes != len(class_names):
        found = f"{net.facts.head} network of {net.facts.num_classes} classes"
        raise InputError(f"{path} holds a {found}; needed is a CAM network of the {len(class_names)} of the data set")
    if net.facts.class_names and net.facts.class_names != class_names:
        raise InputError(f"{path} was trained on other classes than the data set's, or in another order")
    facts = {k: v for k, v in asdict(net.facts).items() if k != "class_names"}
    return net, {**facts, "weights": sha256_of(path), "scales": args.cam_scales, "max_side": args.max_side}


def label_cam(net: Network, work: Work, label: np.ndarray, scales) -> tuple[np.ndarray, np.ndarray]:
    """label (K,) of an image -> keys (P,) and its maps (P,H,W) in [0,1]; an image without a class has P = 0."""
    keys = np.flatnonzero(label)
    if not keys.size:
        return keys, np.zeros((0, *work.size), np.float32)
    cam = present_class_cam(net, work.image, torch.from_numpy(keys).to(net.device), scales, work.size)
    return keys, cam.cpu().numpy()


def largest_first(files) -> list[int]:
    """Indices by size: whoever runs out of memory does so at once."""
    sizes = [image_size(path) for path in files]
    return sorted(range(len(files)), key=lambda i: (-sizes[i][0] * sizes[i][1], sizes[i], i))
