"""What make_sal and the rounds of train_sal share: every image -> the label that a saliency network gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from misc.files.download import sha256_of
from misc.files.held import Held
from misc.files.images import at_most, read_image
from misc.files.store import write_png
from misc.run.device import batch_size_for, facts_of, out_of_memory, pick_device
from misc.run.each import Batches, Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import resize, resize_maps
from net import SalNet, for_inference
from net.student import student_file
from net.weights import read_network
from pgt.cam import mirrored, unmirror
from pgt.crf import CRFParams, mean_field, mean_field_torch, unary_from_prob
from step.refine import at_full_size, crf_on, to_uint8

if TYPE_CHECKING:
    from run_sample import Sal

_SURE = 0.05  # the CRF is told of no probability nearer to 0 or 1: it may change any pixel


@dataclass(frozen=True)
class Work:
    """An image (H,W,3) at --max_side, squares of it, (side,side,3), as the network sees them, and its own size."""

    image: np.ndarray
    squares: tuple[np.ndarray, ...]
    size: tuple[int, int]


def label_by_network(images: Mapping[str, Path], args: Args, failures: Failures) -> None:
    """Writes RESULT_DIR/sal/<stem>.png of the images, by the network of --sal_weights."""
    file = args.once("student", lambda: weights_of(args))
    net, sha256 = args.kept("saliency", lambda: (read_network(file, SalNet), sha256_of(file)))
    label_images("make_sal", "sal", net, sha256, images, args, failures)


def weights_of(args: Args) -> Path:
    """--sal_weights; auto: what train_sal left in RESULT_DIR, else the network that comes along."""
    if args.sal_weights != "auto":
        return Path(args.sal_weights)
    own = args.result_dir / "ckpt" / "sal.pth"
    if not own.is_file():
        return student_file()
    print(f"make_sal: weights of {own}")
    return own


def label_images(
    step: str, key: str, net: SalNet, sha256: str, images: Mapping[str, Path], args: Args, failures: Failures
) -> None:
    """Writes RESULT_DIR/<key>/<stem>.png, 8-bit gray at the image's own size, of images that have not failed before.

    sha256: of the file that net came from; key: also the name of their record.
    """
    recipe, device = args.sal, pick_device(args.device, args.deterministic)
    fast = args.kept(f"{key}'s network", lambda: for_inference(net.to(device)))

    def read(_: Item, data: Sequence[Held]) -> Work:
        return look_at(read_image(data[0]), recipe, args.max_side)

    def compute(works: Sequence[Work]) -> list[list[Write]]:
        with out_of_memory("lower --max_side"):
            found = maps_of(fast, works, recipe)
        return [[partial(write_label, work=w, maps=maps, recipe=recipe)] for maps, w in zip(found, works, strict=True)]

    items = [Item(file, (args.result_dir / key / f"{stem}.png",), (file,)) for stem, file in images.items()]
    settings = {"weights": sha256, **asdict(recipe), "max_side": args.max_side}
    batches = Batches(compute, batch_size_for(device, 0), lambda work: work.image.shape)
    facts = {"network": net.facts.network, "sha256": sha256}
    each(step, items, settings, read, args, failures, batches=batches, key=key, facts=facts)


def look_at(image: np.ndarray, recipe: Sal, max_side: int) -> Work:
    """image (H,W,3) uint8 -> what is labelled of it."""
    return Work(at_most(image, max_side), squares(image, recipe.sides), image.shape[:2])


def maps_of(net: SalNet, works: Sequence[Work], recipe: Sal) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """-> of each image, all of one size, the network's map (H,W) in [0,1], and what a CRF makes of it, where the
    network's device is one that refines."""
    maps = resize_maps(predict(net, works), works[0].image.shape[:2])
    if recipe.crf is None or not facts_of(net.device).refines:
        return [(one, None) for one in maps]
    crf = crf_on(net.device, [w.image for w in works], [unary(one) for one in maps], recipe.crf)[:, 1]
    return [*zip(maps, crf, strict=True)]


def squares(image: np.ndarray, sides: Sequence[int]) -> tuple[np.ndarray, ...]:
    """image (H,W,3) uint8 -> squeezed to a square of each side."""
    return tuple(resize(image, (side, side)) for side in sides)


@torch.inference_mode()
def predict(net: SalNet, works: Sequence[Work]) -> np.ndarray:
    """-> (N,h,w) in [0,1], on the finest of the squares' grids: the mean over squares and their mirrors."""
    batches = zip(*(work.squares for work in works), strict=True)
    probs = [unmirror(net(mirrored(batch).to(net.device)).float().sigmoid()) / 2 for batch in batches]
    size = max(tuple(p.shape[2:]) for p in probs)
    probs = [torch.nn.functional.interpolate(p, size, mode="bilinear", align_corners=False) for p in probs]
    return torch.stack(probs).mean(0)[:, 0].cpu().numpy()


def unary(prob: np.ndarray) -> np.ndarray:
    """prob (H,W) in [0,1] -> energies (2,H,W) of background and object."""
    p = prob.clip(_SURE, 1 - _SURE)
    return unary_from_prob(np.stack([1 - p, p]))


def crf_of_batch(image: torch.Tensor, prob: torch.Tensor, params: CRFParams) -> torch.Tensor:
    """image (N,3,h,w) in 0..255, prob (N,h,w) in [0,1] -> what a CRF makes of prob, on its device."""
    if facts_of(prob.device).refines:
        p = prob.clamp(_SURE, 1 - _SURE)
        return mean_field_torch(image, -torch.stack([1 - p, p], 1).log(), params)[:, 1]
    images = image.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    maps = [mean_field(i, unary(p), params)[1] for i, p in zip(images, prob.cpu().numpy(), strict=True)]
    return torch.from_numpy(np.stack(maps)).to(prob.device)


def write_label(
    path: Path, made_from: str, work: Work, maps: tuple[np.ndarray, np.ndarray | None], recipe: Sal
) -> None:
    """In the threads that write."""
    write_png(path, label_of(work, maps, recipe), made_from=made_from)


def label_of(work: Work, maps: tuple[np.ndarray, np.ndarray | None], recipe: Sal) -> np.ndarray:
    """maps_of an image -> its label (H,W) uint8: the mean of the map and what a CRF makes of it."""
    prob, crf = maps
    if recipe.crf is not None:
        crf = mean_field(work.image, unary(prob), recipe.crf)[1] if crf is None else crf
        prob = (prob + crf) / 2
    return at_full_size(to_uint8(prob, recipe.binary), work.size)
