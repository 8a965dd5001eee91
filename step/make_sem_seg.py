"""CAMs -> pixel-level pseudo labels, by a random walk along AffinityNet's affinities, and a CRF.

    python run_voc.py ... --sem_seg_weights resnet38_aff.pth        with a published network

Reads   the images of all parts; RESULT_DIR/cam/<name>.npz; RESULT_DIR/ckpt/aff.pth
Writes  RESULT_DIR/sem_seg/<name>.png, palette pictures as VOC's masks; with --sem_seg_soft also
        sem_seg_soft/<name>.npz, scores of the background and the present classes in the format of CRF maps; with
        --sem_seg_confidence also sem_seg_sure/<name>.png, void where unsure, which train_seg then learns from
Paper   Ahn & Kwak, Learning pixel-level semantic affinity, CVPR 2018, section 3.3; HFPL, WACV 2024
"""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from data.voc12 import write_mask
from misc.errors import InputError
from misc.files.download import sha256_of
from misc.files.images import limit_side, read_image
from misc.files.predictions import Cams, read_prediction
from misc.files.store import fingerprint, is_current, require_writable, write_cams
from misc.run.device import autocast, pick_device
from misc.run.parallel import num_workers_for, parallel_map, progress
from misc.train.augment import resize, resize_maps
from misc.train.stage import require_files, trained_file
from net import AffinityNet, Network, for_inference
from net.affinitynet import affinity
from net.weights import read_checkpoint
from pgt.affinity import IGNORE, RADIUS, pair_indices, walk_labels
from pgt.crf import CRFParams, dense_crf
from step.make_crf import crf_params
from step.seg_set import open_all

SURE = "sem_seg_sure"


@dataclass(frozen=True)
class SemSegRecipe:
    """See the flags --sem_seg_<field> for what each is. crf None: no CRF."""

    scale: float
    alpha: float
    beta: float
    exp_times: int
    confidence: float
    crf: CRFParams | None


def run(args, failures) -> None:
    recipe = recipe_of(args)
    images = open_all(args)
    kinds = ("cam", "sem_seg", "sem_seg_soft", SURE)
    cam_dir, out_dir, soft_dir, sure_dir = (args.result_dir / kind for kind in kinds)
    items = [
        Item(file, out_dir / f"{name}.png", cam_dir / f"{name}.npz")
        for name, file in zip(images.names, images.files, strict=True)
    ]
    require_files([item.source for item in items], "CAMs", "make_cam")
    weights = args.sem_seg_weights or trained_file(args, "aff", "sem_seg_weights")
    embed = Embedder(read_network(weights, AffinityNet).to(pick_device(args.device)))
    settings = {**asdict(recipe), "max_side": args.max_side, "weights": sha256_of(weights), "soft": args.sem_seg_soft}

    def label_of(image: np.ndarray, item: Item) -> np.ndarray:
        cams = read_cams(item.source, image.shape[:2])
        scores, labels = pseudo_scores(image, cams, embed, recipe, args.max_side), np.append(0, cams.labels)
        if args.sem_seg_soft:
            write_cams(soft_dir / item.out.relative_to(out_dir).with_suffix(".npz"), labels, scores)
        if recipe.confidence:
            write_mask(sure_dir / item.out.relative_to(out_dir), label_map(scores, labels, recipe.confidence))
        return label_map(scores, labels, 0)

    label_images("make_sem_seg", items, label_of, settings, args, failures)


@dataclass(frozen=True)
class Item:
    """An image, where its label goes, and what that is made from besides the image."""

    image: Path
    out: Path
    source: Path | None = None


def label_images(
    step: str, items: Sequence[Item], label_of: Callable[[np.ndarray, Item], np.ndarray], settings: dict, args, failures
) -> None:
    """Writes label_of(image (H,W,3) uint8, item) -> (H,W) uint8 of every item whose label is not up to date; settings:
    what labels depend on besides files. What cannot be used is added to failures."""
    for folder in {item.out.parent for item in items}:
        require_writable(folder)
    cv2.setNumThreads(1)  # the workers are the parallelism

    def one(item: Item) -> bool:
        data = item.image.read_bytes()
        made_from = fingerprint(data, item.source.read_bytes() if item.source else b"", settings)
        if not args.overwrite and is_current(item.out, made_from):
            return False
        write_mask(item.out, label_of(read_image(io.BytesIO(data)), item), made_from)
        return True

    made, done = 0, parallel_map(one, items, num_workers_for(args.num_workers, len(items)))
    for item, result in progress(done, len(items), step, args.quiet):
        if isinstance(result, OSError):
            failures.add(step, item.image, result)
        else:
            made += result
    print(f"{step}: {made} labels made, {len(items) - made} kept or failed", flush=True)


def recipe_of(args) -> SemSegRecipe:
    crf = crf_params("wsss_cam", args.sem_seg_crf_num_iter, args) if args.sem_seg_crf else None
    names = [f.name for f in fields(SemSegRecipe) if f.name != "crf"]
    return SemSegRecipe(**{name: getattr(args, f"sem_seg_{name}") for name in names}, crf=crf)


def read_network(path: Path, kind: type) -> Network:
    """Raises InputError for a file that holds no network of this kind."""
    network = read_checkpoint(path)
    if not isinstance(network, kind):
        raise InputError(f"{path} holds a {type(network).__name__}, and a {kind.__name__} is needed")
    return network


class Embedder:
    """An AffinityNet for threads, which take turns: it needs the most memory, and has threads of its own."""

    def __init__(self, network: AffinityNet):
        self.net, self._turn = for_inference(network), threading.Lock()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """image (H,W,3) uint8 -> embeddings (1,448,h,w) float32 on the network's device."""
        img = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self.net.device)
        with self._turn, autocast(self.net.device):
            return self.net(img).float()


@torch.inference_mode()
def pseudo_scores(
    image: np.ndarray, cams: Cams, embed: Callable[[np.ndarray], Tensor], recipe: SemSegRecipe, max_side: int
) -> np.ndarray:
    """image (H,W,3) uint8 and its CAMs -> scores (P+1,H,W) float32 of background and present classes, which sum to 1.

    The walk is on the grid of the image times recipe.scale, the CRF on the image; both at max_side at most.
    """
    size = image.shape[:2]
    if not cams.labels.size:
        return np.ones((1, *size), np.float32)
    walked = limit_side(tuple(max(1, round(side * recipe.scale)) for side in size), max_side)
    features = embed(resize(image, walked))
    cam = torch.from_numpy(resize_maps(cams.scores, walked)).to(features.device)
    values = affinity(features, *pair_indices(RADIUS, features.shape[2:]))[0]
    walk = {"alpha": recipe.alpha, "beta": recipe.beta, "exp_times": recipe.exp_times}
    scores = walk_labels(cam, cams.labels.tolist(), values, **walk)[0].cpu().numpy()
    scores = scores / np.maximum(scores.sum(0), 1e-8)
    if recipe.crf is not None:
        crf_size = limit_side(size, max_side)
        scores = dense_crf(resize(image, crf_size), resize_maps(scores, crf_size), recipe.crf)
    return resize_maps(scores, size)


def label_map(scores: np.ndarray, labels: Sequence[int], confidence: float) -> np.ndarray:
    """scores (P+1,H,W) of labels (P+1,) -> (H,W) uint8: the first of the largest, IGNORE where that is below
    confidence."""
    label = np.asarray(labels, np.uint8)[scores.argmax(0)]
    label[scores.max(0) < confidence] = IGNORE
    return label


def read_cams(path: Path, size: tuple[int, int]) -> Cams:
    """CAMs of an image of this size (H, W); without a class, of no size. Raises OSError for anything else."""
    try:
        cams = read_prediction(path)
    except OSError as e:
        raise OSError(f"its CAMs {path}: {e}") from e
    if not isinstance(cams, Cams):
        raise OSError(f"its CAMs {path}: hold none")
    if cams.labels.size and cams.scores.shape[1:] != size:
        raise OSError(f"its CAMs {path} are {cams.scores.shape[:0:-1]}, the image {size[::-1]} (width, height)")
    return cams
