"""Confident parts of two CRF maps -> AffinityNet, which tells whether neighbouring pixels are of one class.

    python run_voc.py ... --train_seam_pass False --make_cam_pass False --make_crf_pass False     what follows them
    torchrun --nproc-per-node 4 run_voc.py ...                                                    on four devices

Reads   the training images; RESULT_DIR/crf_la/<name>.npz and crf_ha/<name>.npz (step/make_crf.py); start weights
Writes  RESULT_DIR/ckpt/aff.pth, weights and facts alone; train_aff.csv; states to go on from
Paper   Ahn & Kwak, Learning pixel-level semantic affinity, CVPR 2018; HFPL, WACV 2024
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import net
from data.labelled import LabelledImages, spread
from misc.errors import InputError, naming
from misc.files.images import read_image
from misc.files.predictions import Cams, read_prediction
from misc.files.store import fingerprint
from misc.run.device import pick_device
from misc.run.distributed import launched, together
from misc.train.augment import color_jitter, random_crop, random_flip, random_resize_long
from misc.train.loop import Group, Length, Optimization, describe_identity, fit
from net.affinitynet import affinity
from net.network import Network, parameter_groups
from net.weights import load_backbone, save_checkpoint
from pgt.affinity import IGNORE, RADIUS, affinity_labels, affinity_loss, block_mean, confident_label, pair_indices
from step.seg_set import open_train

SEVERAL_PROCESSES = True


@dataclass(frozen=True)
class AffRecipe:
    """See the flags --aff_<field> for what each is."""

    crop_size: int
    long_side: list[int] | None
    jitter: float
    hue: float
    batch_size: int
    num_epoches: float
    learning_rate: float
    momentum: float
    weight_decay: float


def run(args, failures) -> None:
    recipe = AffRecipe(**{f.name: getattr(args, f"aff_{f.name}") for f in fields(AffRecipe)})
    name = known_network(args, "aff")
    images = open_train(args).images
    maps = crf_maps(images.names, args.result_dir)
    with together(pick_device(args.device)) as (processes, device):
        torch.manual_seed(args.seed)
        network = net.build(name, 0, head="affinity")
        load_backbone(network, start_weights(args, "aff"), not args.quiet)
        task = AffTask(network.to(device, memory_format=torch.channels_last), images, maps, recipe)
        how = Optimization(learning_rate=recipe.learning_rate, momentum=recipe.momentum,
                           weight_decay=recipe.weight_decay, accumulate=args.accumulate)  # fmt: skip
        steps = max(1, round(recipe.num_epoches * len(images) / recipe.batch_size))
        length = Length(len(images), recipe.batch_size, steps, args.seed, args.state_steps)
        identity = describe_identity(
            how,
            length,
            **asdict(recipe),
            network=name,
            weights=start_weights(args, "aff"),
            maps=digest([path for pair in maps for path in pair]),
        )
        ckpt = args.result_dir / "ckpt"
        fit(task, how, length, ckpt / "train_aff", args.result_dir / "train_aff.csv", identity, device, processes,
            args.resume, args.num_workers, args.quiet)  # fmt: skip
    if launched().rank == 0:
        save_checkpoint(ckpt / "aff.pth", network)
        print(f"train_aff: {ckpt / 'aff.pth'}", flush=True)


def crf_maps(names: Sequence[str], result_dir: Path) -> list[tuple[Path, Path]]:
    """The la and ha map of each image. Raises InputError, which names one, where some are missing."""
    pairs = [(result_dir / "crf_la" / f"{name}.npz", result_dir / "crf_ha" / f"{name}.npz") for name in names]
    require_files([path for pair in pairs for path in pair], "CRF maps", "make_crf")
    return pairs


def require_files(paths: Sequence[Path], what: str, made_by: str) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} {what} are missing, {missing[0]} for one: run {made_by} (--{made_by}_pass)")


def trained_file(args, stage: str, flag: str) -> Path:
    """The checkpoint that train_<stage> leaves. Raises InputError where it did not."""
    path = args.result_dir / "ckpt" / f"{stage}.pth"
    if not path.is_file():
        raise InputError(f"{path} is missing: run train_{stage} (--train_{stage}_pass), or give --{flag} FILE")
    return path


def digest(files: Sequence[Path]) -> str:
    """Of a sample of what is trained on: other files are another training, which does not go on from the state."""
    return fingerprint(*(files[i] for i in spread(len(files))))


def known_network(args, stage: str) -> str:
    """The backbone of a stage (a prefix of flags), which is that of train_seam where no flag says otherwise. Raises
    InputError for an unknown one, and for one that has to be given weights to start from and is not."""
    own = getattr(args, f"{stage}_network")
    name = own or args.seam_network
    if name not in net.NETWORKS:
        raise InputError(
            f"--{stage if own else 'seam'}_network {name}: unknown, choose one of {', '.join(net.NETWORKS)}"
        )
    if name == "resnet38" and start_weights(args, stage) is None:
        raise InputError(
            f"resnet38 starts from --{stage}_weights FILE, ilsvrc-cls_rna-a1_cls1000_ep-0001.params or a .pth; or take "
            f"--{stage}_network resnet50, whose ImageNet weights come with torchvision"
        )
    return name


def start_weights(args, stage: str) -> Path | None:
    """What the training of a stage starts from: its own (the word seam: the network that train_seam left), or what
    train_seam starts from where the backbone is the same; None for ImageNet's."""
    if str(getattr(args, f"{stage}_weights")) == "seam":
        return trained_file(args, "seam", f"{stage}_weights")
    same = getattr(args, f"{stage}_network") in (None, args.seam_network)
    return getattr(args, f"{stage}_weights") or (args.seam_weights if same else None)


def factor_groups(network: Network, head_factor: float = 10) -> list[Group]:
    """Learning rates of SEAM, AffinityNet and DeepLab: 1, 2 for biases, 10 for new layers, 20 for their biases, which
    do not decay."""
    weights, biases, new, new_biases = parameter_groups(network)
    return [
        Group(weights),
        Group(biases, 2, decays=False),
        Group(new, head_factor),
        Group(new_biases, 2 * head_factor, decays=False),
    ]


class AffTask:
    """See misc.train.loop.Task."""

    def __init__(self, network: Network, images: LabelledImages, maps: Sequence[tuple[Path, Path]], recipe: AffRecipe):
        self.net, self.images, self.maps, self.recipe = network, images, maps, recipe
        self.groups = factor_groups(network)
        self.fill = tuple(255 * value for value in network.facts.mean)
        cv2.setNumThreads(1)  # the reading threads are the parallelism

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        image = read_named(self.images.files[index])
        la, ha = (read_maps(path, image.shape[:2]) for path in self.maps[index])
        image, *maps = augmented(image, la, ha, self.recipe, self.fill, rng)
        la, ha = (block_mean(torch.from_numpy(m)) for m in maps)
        return image, confident_label(la, ha).numpy()

    def loss(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """image (N,3,H,W) uint8, label (N,h,w) uint8 on the grid of the affinities. sure: share of labelled cells."""
        values = affinity(self.net(image).float(), *pair_indices(RADIUS, label.shape[1:]))
        bg, fg, neg = (torch.stack(kind) for kind in zip(*map(affinity_labels, label), strict=True))
        return {"loss": affinity_loss(values, bg, fg, neg), "sure": (label != IGNORE).float().mean()}

    def validate(self, network: Network) -> dict[str, float]:
        """Nothing: what affinities are good for shows in the pseudo labels."""
        return {}


def read_named(path: Path) -> np.ndarray:
    """read_image, whose OSError names the file."""
    with naming(path):
        return read_image(path)


def read_maps(path: Path, size: tuple[int, int]) -> np.ndarray:
    """CRF map in path -> (P+1,H,W) float32, background first; all background for an image without a class.

    Raises OSError, which names the file, for one that holds something else or is of another size (H, W).
    """
    with naming(path):
        maps = read_prediction(path, keys="label")
    if not isinstance(maps, Cams) or not (maps.has_background or maps.labels.size == 0):
        raise OSError(f"{path} holds no CRF map; remove it and run make_crf")
    if not maps.labels.size:
        return np.ones((1, *size), np.float32)
    if maps.scores.shape[1:] != size:
        raise OSError(f"{path} is {maps.scores.shape[:0:-1]}, its image {size[::-1]} (width, height)")
    return maps.scores


def augmented(
    image: np.ndarray, la: np.ndarray, ha: np.ndarray, recipe: AffRecipe, fill, rng: np.random.Generator
) -> list[np.ndarray]:
    """image (H,W,3) uint8 and its maps (P+1,H,W) float32 -> the same part of each, crop x crop; maps are 0 beyond the
    image, which makes labels there unsure."""
    if recipe.jitter or recipe.hue:
        image = color_jitter(image, recipe.jitter, recipe.hue, rng)
    if recipe.long_side:
        image = random_resize_long(image, *recipe.long_side, rng)
    last = [resize_maps(maps, image.shape[:2]).transpose(1, 2, 0) for maps in (la, ha)]
    image, *last = random_flip(random_crop([image, *last], recipe.crop_size, [fill, 0.0, 0.0], rng), rng)
    return [np.ascontiguousarray(image), *(np.ascontiguousarray(maps.transpose(2, 0, 1)) for maps in last)]


def resize_maps(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C,H,W) float32 -> (C,*size), bilinear."""
    if maps.shape[1:] == size:
        return maps
    return np.stack([cv2.resize(m, size[::-1], interpolation=cv2.INTER_LINEAR) for m in maps])
