"""Images -> class activation maps: summed over classes to one saliency map per image (run), or those of the classes
that an image is known to have (run_classes).

Reads   run: the images of --sal_dataset_dir, weights (net/weights.py)
        run_classes: the images of the set and their classes (step/sets.py), RESULT_DIR/ckpt/seam.pth
Writes  run: RESULT_DIR/cam/<stem>.png, 8-bit gray at the image's own size; 16-bit at its quarter with --cam_quarter
        run_classes: RESULT_DIR/cam/<name>.npz: keys (P,), classes from 0; cam (P,H,W) uint8, or uint16 with --cam_bits
        16; scale: to 0..1
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
from misc.files.images import at_most, read_image
from misc.files.store import write_cams, write_png
from misc.run.device import batch_size_for, out_of_memory, pick_device, side_step_for
from misc.run.each import Batches, Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import resize
from net import CAMNet, Network, SEAMNet, for_inference
from net.weights import load, read_checkpoint
from pgt.cam import class_power, fuse_cams, fuse_irn, pyramid, pyramid_cams, pyramid_saliency
from pgt.pamr import refine_cams
from step.sets import largest_first, open_all, open_images, shard_of


@dataclass(frozen=True)
class Work:
    """A picture to be mapped: its pixels at every scale, (h,w,3) uint8, its size (H, W) at inference (--max_side), its
    own size, its classes, and its pixels (h,w,3) uint8 for what refines the maps."""

    levels: tuple[np.ndarray, ...]
    seen: tuple[int, int]
    size: tuple[int, int]
    keys: tuple[int, ...] = ()
    small: np.ndarray | None = None


def run(args: Args, failures: Failures) -> None:
    images = open_images(args).images
    out_dir = args.cam_out_dir or args.result_dir / "cam"
    weights = args.cam_weights_dir or args.once("trained", lambda: trained_here(args))
    cache = args.result_dir / "weights"
    net, sha256 = args.kept("network", lambda: load(args.cam_network, weights, cache, not args.quiet))
    power = class_power(net, args.cam_class_power)

    def maps(fast: Network, works: Sequence[Work]) -> list[list[Write]]:
        found = saliency_of(fast, works, power)
        return [[write_of(s, w.size)] for s, w in zip(found, works, strict=True)]

    def write_of(saliency: np.ndarray, size: tuple[int, int]) -> Write:
        write = partial(write_quarter, saliency=saliency)
        return write if args.cam_quarter else partial(write_map, saliency=saliency, size=size)

    items = [Item(file, (out_dir / f"{stem}.png",), (file,)) for stem, file in images.items()]
    settings = {"power": power, **({"quarter": True} if args.cam_quarter else {})}
    source = {"weights": weights, "sha256": sha256}
    make_maps(net, source, settings, items, maps, in_order(args.cam_scales), args, failures)


def in_order(scales: Sequence[float]) -> list[float]:
    """The largest takes the memory that serves the others."""
    return sorted(scales, reverse=True)


def saliency_of(net: Network, works: Sequence[Work], power: float) -> list[np.ndarray]:
    """-> of each picture, all of one size at the network, its saliency (h,w) float32 in [0,1]."""
    found = pyramid_saliency(net, [work.levels for work in works], [work.seen for work in works], power)
    return [saliency.float().cpu().numpy() for saliency in found]


def run_classes(args: Args, failures: Failures) -> None:
    images = open_all(args)
    images = images.take(shard_of(args, len(images)))
    out_dir = args.result_dir / "cam"
    net, path = args.kept("network", lambda: read_cam_network(args, images.class_names))
    irn, bits = args.once("irn", lambda: infers_as_irn(net, args.cam_inference)), args.cam_bits
    settings = {**({"inference": "irn"} if irn else {}), **({"bits": bits} if bits != 8 else {})}
    settings |= {"pamr": args.cam_pamr} if args.cam_pamr else {}

    def maps(fast: Network, works: Sequence[Work]) -> list[list[Write]]:
        found = own_maps(fast, works, fuse_irn if irn else fuse_cams)
        write = partial(write_class_maps, bits=bits)
        return [[partial(write, work=work, cam=cam)] for cam, work in zip(found, works, strict=True)]

    items = [
        Item(file, (out_dir / f"{name}.npz",), (file,), facts={"keys": np.flatnonzero(label).tolist()})
        for file, name, label in zip(images.files, images.names, images.labels, strict=True)
    ]
    source = {"weights": path, "sha256": args.kept("sum", lambda: sha256_of(path))}
    make_maps(net, source, settings, items, maps, args.cam_scales, args, failures, args.cam_pamr)


def make_maps(
    net: Network,
    source: dict,
    settings: dict,
    items: Sequence[Item],
    maps: Callable[[Network, Sequence[Work]], list[list[Write]]],
    scales: Sequence[float],
    args: Args,
    failures: Failures,
    small: float = 0.0,
) -> None:
    """maps(network, works) -> what is to be written of each; source: weights, a file or address, and their sha256;
    settings: whatever the maps depend on besides the network, the flags that both kinds have, the item's facts;
    scales: --cam_scales in the order in which they are taken; small: the scale of Work.small, 0 for none."""
    device = pick_device(args.device, args.deterministic)
    step, batch_size = side_step_for(device, args.side_step), batch_size_for(device, args.cam_infer_batch_size)
    facts = {k: v for k, v in asdict(net.facts).items() if k != "class_names"}
    settings = {**facts, "weights": source["sha256"], **settings, "scales": args.cam_scales, "max_side": args.max_side}
    settings |= {"side_step": step} if step else {}
    fast = args.kept("fast", lambda: for_inference(net.to(device)))

    def read(item: Item, data: Sequence[Held]) -> Work:
        return look_at(read_image(data[0]), scales, args.max_side, step, tuple(item.facts.get("keys", ())), small)

    def compute(works: Sequence[Work]) -> list[list[Write]]:
        with out_of_memory("lower --max_side"):
            return maps(fast, works)

    key = lambda work: ([level.shape for level in work.levels], bool(work.keys))  # noqa: E731
    order = partial(largest_first, max_side=args.max_side, step=step)
    batches = Batches(compute, batch_size, key, bool(step), order)
    facts = {"network": net.facts.network, **source, **({"side_step": step} if step else {})}
    each("make_cam", items, settings, read, args, failures, what="maps", batches=batches, key="cam", facts=facts)


def look_at(
    image: np.ndarray, scales: Sequence[float], max_side: int, step: int, keys: tuple[int, ...] = (), small: float = 0.0
) -> Work:
    """image (H,W,3) uint8 -> what is mapped of it."""
    seen = at_most(image, max_side)
    again = resize(seen, tuple(max(1, round(small * side)) for side in seen.shape[:2])) if small else None
    return Work(tuple(pyramid(seen, scales, step)), seen.shape[:2], image.shape[:2], keys, again)


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


def infers_as_irn(net: Network, wanted: str) -> bool:
    """Whether maps are made by IRN's inference: as wanted, or by "auto" of a CAM network whose file says no classes, as
    IRN's is. Tells of it."""
    irn = wanted == "irn" or (wanted == "auto" and isinstance(net, CAMNet) and not net.facts.class_names)
    if irn:
        print("make_cam: IRN's inference (--cam_inference seam takes SEAM's)", flush=True)
    return irn


def own_maps(net: Network, works: Sequence[Work], fuse: Callable = fuse_cams) -> list[np.ndarray]:
    """-> of each picture, all of one size at the network, the maps (P,H,W) in [0,1] of its classes; P may be 0."""
    some = [work for work in works if work.keys]
    keys = [torch.tensor(work.keys, device=net.device) for work in some]
    found = iter(pyramid_cams(net, [w.levels for w in some], keys, [w.size for w in some], fuse) if some else ())
    return [next(found).cpu().numpy() if w.keys else np.zeros((0, *w.size), np.float32) for w in works]


def write_class_maps(path: Path, work: Work, cam: np.ndarray, bits: int, made_from: str = "") -> None:
    """In the threads that write."""
    cam = cam if work.small is None else refine_cams(work.small, cam)
    write_cams(path, np.array(work.keys), cam, made_from, bits)


def write_quarter(path: Path, saliency: np.ndarray, made_from: str) -> None:
    write_png(path, to_quarter(saliency), made_from=made_from)


def to_quarter(saliency: np.ndarray) -> np.ndarray:
    """saliency (h,w) float32 in [0,1] -> uint16 of its size."""
    return np.rint(saliency * 65535).astype(np.uint16)


def write_map(path: Path, saliency: np.ndarray, size: tuple[int, int], made_from: str) -> None:
    write_png(path, to_map(saliency, size), made_from=made_from)


def to_map(saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """saliency (h,w) float32 in [0,1] -> uint8 of this size (H, W), bilinear."""
    full = cv2.resize(saliency, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.multiply(full, 255, out=full)  # in place: of a large photograph each copy is a gigabyte
    return np.rint(full, out=full).astype(np.uint8)
