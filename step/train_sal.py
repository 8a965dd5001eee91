"""Images and their two labels -> a saliency network that is better than both. No mask is read.

    python run_sample.py photos --train_sal_pass                         make labels, learn from them, and label
    python run_sample.py photos --train_sal_pass --sal_init shipped      from the one that comes along, by its labels
    torchrun --nproc-per-node 2 run_sample.py photos --train_sal_pass    on several devices

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam_pamr/<stem>.png, cam_slic/<stem>.png, or the labels of the
        saliency network that --sal_init names; weights to start from
Writes  RESULT_DIR/ckpt/sal.pth, weights and facts alone; train_sal.csv; states to go on from
Paper   pgt/self_training.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import net
from data.labelled import digest
from misc.errors import InputError, naming
from misc.files.download import sha256_of
from misc.files.images import at_size, image_size, read_gray, read_named
from misc.report.kinds import LEARNED_FROM
from misc.run.device import facts_of, pick_device
from misc.run.distributed import from_all, from_first, is_main, launched
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.train.augment import color_jitter, resize
from misc.train.loop import Group
from misc.train.recolor import color_jitter_steps, recolored
from misc.train.stage import Stage, length_of, require_files, train
from net import SalNet
from net.fast.for_training import for_training
from net.student import student_file
from net.weights import DEFAULT_NETWORK, load_backbone, read_checkpoint, read_network, require_network, save_checkpoint
from pgt.crf import CRF_RECIPES
from pgt.self_training import refined, self_training_loss
from step.sal_labels import crf_of_batch, label_images
from step.sets import open_images

if TYPE_CHECKING:
    from run_sample import TrainSal

SEVERAL_PROCESSES = True
_STRIDE = 4  # of the network's maps, and of the targets
_OF_START = "sal_round0"


def run(args: Args, failures: Failures) -> None:
    recipe = args.train_sal
    files = open_images(args).images
    usable = [stem for stem, file in files.items() if file not in failures]
    device = pick_device(args.device, args.deterministic)
    images = {stem: files[stem] for stem in from_first(usable, device)}
    if len(recipe.view_sides) < 2:
        raise InputError(f"--sal_view_sides {recipe.view_sides[0]}: give two sides at least, they have to agree")
    name, weights = start_of_sal(args)
    folders = first_labels(weights, images, device, args, failures)
    labels = [folder / f"{stem}.png" for folder in folders for stem in images]
    identity = {"network": name, "weights": weights, "labels": digest(labels)}

    def learn(this: str, seen: Mapping[str, Path], i: int) -> Path:
        train(
            Stage(this, recipe, len(seen), {**identity, "round": i}, save),
            args,
            lambda: build(name, weights, not args.quiet),
            lambda network: begin(network, seen, folders, args),
        )
        return args.result_dir / "ckpt" / f"{this}.pth"

    for i in range(1, args.sal_rounds):
        out = f"sal_round{i}"
        for half, seen, others in halves(images):
            file = learn(f"{out}_{half}", seen, i)
            if is_main():
                label_images("train_sal", out, read_network(file, SalNet), sha256_of(file), others, args, failures)
            from_first(out, device)
        folders = [args.result_dir / out]
    learn("sal", images, args.sal_rounds)


def first_labels(
    weights: Path | None, images: Mapping[str, Path], device: torch.device, args: Args, failures: Failures
) -> list[Path]:
    """-> the folders of labels to learn from: those of the network that is started from, which never saw the images and
    knows better; else both published kinds, which have to be there."""
    start = read_checkpoint(weights) if weights else None
    if isinstance(start, SalNet):
        if is_main():
            label_images("train_sal", _OF_START, start, sha256_of(weights), images, args, failures)
        from_first(_OF_START, device)
        return [args.result_dir / _OF_START]
    folders = [kind.folder(args) for kind in LEARNED_FROM]
    for kind, folder in zip(LEARNED_FROM, folders, strict=True):
        maker = {"cam_pamr": "make_label", "cam_slic": "make_slic"}[kind.key]
        require_files([folder / f"{stem}.png" for stem in images], f"labels ({kind.title})", maker)
    return folders


def halves(images: Mapping[str, Path]) -> Iterator[tuple[str, Mapping[str, Path], Mapping[str, Path]]]:
    """-> name, images to learn from and the others, whose labels then are of a network that never saw them: it knows
    by heart what is wrong with the labels of the images that it learned from. A single image is both."""
    first, second = (dict([*images.items()][i::2]) or images for i in (0, 1))
    yield "a", first, second
    yield "b", second, first


def start_of_sal(args: Args) -> tuple[str, Path | None]:
    """-> name of the backbone, and the file to start from; None for ImageNet's backbone."""
    weights = student_file() if args.sal_init == "shipped" else args.sal_init and Path(args.sal_init)
    known = read_checkpoint(weights).facts.network if weights else DEFAULT_NETWORK
    if args.sal_network and weights and args.sal_network != known:
        raise InputError(f"--sal_network {args.sal_network}: --sal_init {weights} holds a {known}")
    name = args.sal_network or known
    require_network(name, "--sal_network", "--sal_init", weights)
    return name, weights


def build(name: str, weights: Path | None, progress: bool) -> SalNet:
    """A saliency network that starts from the one in weights, or from the backbone there; None: from ImageNet's."""
    network = net.build(name, 0, layout="imagenet", head="saliency")
    held = read_checkpoint(weights) if weights else None
    if isinstance(held, SalNet):
        return held
    load_backbone(network, weights, progress)
    return network


def begin(network: SalNet, images: Mapping[str, Path], folders: Sequence[Path], args: Args) -> SalTask:
    recipe, files = args.train_sal, [*images.values()]
    steps = length_of(recipe, len(files), args.seed).num_steps
    parts = launched().count * args.accumulate
    return SalTask(
        SelfTraining(network, read_targets(images, folders, recipe.crop_size // _STRIDE, args.num_workers)),
        files,
        recipe,
        refine_from=round(recipe.refine_from * steps * args.accumulate),
        rows=math.ceil(recipe.batch_size / parts),
    )


def read_targets(images: Mapping[str, Path], folders: Sequence[Path], side: int, num_workers: int) -> np.ndarray:
    """The mean of the labels of each image, (M,side,side) uint8. Raises InputError, which names a label that is damaged
    or of another shape than its image, and where no label holds an object."""

    def read(stem: str) -> np.ndarray:
        size = image_size(images[stem])
        if size == (1, 1):  # also of a file that is no picture: reading it says why
            size = read_named(images[stem]).shape[:2]
        total = np.zeros(size, np.float32)
        for folder in folders:
            with naming(path := folder / f"{stem}.png"):
                label = read_gray(path)
            try:
                total += at_size(label, size)
            except ValueError as e:
                raise OSError(f"{path} {e}") from e
        return resize(total / len(folders), (side, side)).clip(0, 255).round().astype(np.uint8)

    targets = np.zeros((len(images), side, side), np.uint8)
    for i, (_, target) in enumerate(parallel_map(read, images, num_workers_for(num_workers, len(images)))):
        if isinstance(target, OSError):
            raise InputError(f"{target}; make it again, or take the image away")
        targets[i] = target
    if (targets < 128).all():
        raise InputError(f"no label in {' and '.join(map(str, folders))} holds an object: there is nothing to learn")
    return targets


def save(path: Path, held: SelfTraining) -> None:
    save_checkpoint(path, held.network)


class SelfTraining(nn.Module):
    """A network together with what it learns from, which moves while it learns: both are its state.

    targets (M,side,side) uint8, of each image; forwards: how many batches have been learned from.
    """

    def __init__(self, network: SalNet, targets: np.ndarray):
        super().__init__()
        self.network, self.targets, self.forwards = network, torch.from_numpy(targets), 0

    def get_extra_state(self) -> dict:
        return {"targets": self.targets, "forwards": self.forwards}

    def set_extra_state(self, state: dict) -> None:
        self.targets, self.forwards = state["targets"], state["forwards"]

    def take(self, index: Tensor) -> Tensor:
        """(N,) -> targets (N,side,side) in [0,1], on the network's device."""
        return self.targets[index.cpu()].to(self.network.device) / 255

    def put(self, index: Tensor, target: Tensor) -> None:
        for i, one in zip(index.cpu().tolist(), (255 * target).round().to(torch.uint8).cpu(), strict=True):
            self.targets[i] = one  # one by one: of an image that a batch holds twice the last counts


class SalTask:
    """See misc.train.loop.Task. refine_from: the forward from which on targets move."""

    def __init__(self, held: SelfTraining, files: Sequence[Path], recipe: TrainSal, refine_from: int, rows: int):
        self.net, self.files, self.recipe = held, files, recipe
        self.refine_from, self.rows = refine_from, rows
        network = held.network
        old = list(network.backbone.parameters())
        known = {id(parameter) for parameter in old}
        new = [parameter for parameter in network.parameters() if id(parameter) not in known]
        self.groups = [Group(old), Group(new, recipe.head_factor)]
        self._twin = for_training(network)
        self.spares = facts_of(network.device).spares_readers

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        side = self.recipe.crop_size
        image = resize(read_named(self.files[index], side if self.spares else 0), (side, side))
        turned = np.array(rng.random() < 0.5)
        image = np.ascontiguousarray(image[:, ::-1]) if turned else image
        if self.spares:
            steps = color_jitter_steps(image, self.recipe.jitter, 0.0, rng)
            return image, np.array(index), turned, steps, np.ones((side, side), np.uint8)
        return color_jitter(image, self.recipe.jitter, 0.0, rng), np.array(index), turned

    def loss(self, image: Tensor, index: Tensor, turned: Tensor, *colors: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8; index, turned (N,): which ones, and whether in a mirror; colors: what recolored takes,
        where colours are still to be changed."""
        image = recolored(image, *colors) if colors else image
        target = mirrored(self.net.take(index), turned)
        order = torch.randperm(len(self.recipe.view_sides))[:2]
        first, second = (self.predict(image, self.recipe.view_sides[i], target) for i in order)
        parts = self_training_loss(first, second, target, self.recipe.sharpness)
        if self.net.forwards >= self.refine_from and self.recipe.refine_keep < 1:
            prob = with_crf(image, (first.detach() + second.detach()) / 2, self.recipe.refine_crf)
            self.net.put(*from_all(index, mirrored(refined(target, prob, self.recipe.refine_keep), turned), self.rows))
        self.net.forwards += 1
        return parts

    def predict(self, image: Tensor, side: int, target: Tensor) -> Tensor:
        """-> (N,h,w) on target's grid, of the images at this side."""
        if image.shape[2:] != (side, side):
            image = F.interpolate(image.float(), (side, side), mode="bilinear", antialias=True)
        logits = self._twin.train(self.net.training)(image).float()
        return F.interpolate(logits, target.shape[1:], mode="bilinear", align_corners=False)[:, 0].sigmoid()


def mirrored(maps: Tensor, which: Tensor) -> Tensor:
    """maps (N,h,w), which (N,) -> those of them left to right."""
    return torch.where(which[:, None, None], maps.flip(-1), maps)


def with_crf(image: Tensor, prob: Tensor, share: float) -> Tensor:
    """image (N,3,H,W) in 0..255, prob (N,h,w) in [0,1] -> share of what a dense CRF on prob's grid makes of it, and
    the rest of itself."""
    if not share:
        return prob
    small = F.interpolate(image.float(), prob.shape[1:], mode="bilinear", antialias=True)
    params = CRF_RECIPES["saliency"].at_scale(image.shape[2] / prob.shape[1])
    return prob.lerp(crf_of_batch(small, prob, params), share)
