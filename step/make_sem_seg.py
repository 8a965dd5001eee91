"""CAMs -> pixel-level pseudo labels, by a random walk along AffinityNet's affinities, and a CRF.

    python run_voc.py ... --sem_seg_weights resnet38_aff.pth        with a published network

Reads   the images of all parts; RESULT_DIR/cam/<name>.npz; for --bg_cue
        RESULT_DIR/sal/<name>.png; RESULT_DIR/ckpt/aff.pth
Writes  RESULT_DIR/sem_seg/<name>.png, palette pictures as VOC's masks; with --sem_seg_soft also
        sem_seg_soft/<name>.npz, scores of the background and the present classes in the format of CRF maps; with
        --sem_seg_confidence also sem_seg_sure/<name>.png, void where unsure, which train_seg then learns from
Paper   Ahn & Kwak, Learning pixel-level semantic affinity, CVPR 2018, section 3.3; HFPL, WACV 2024
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from misc.files.download import sha256_of
from misc.files.held import Held
from misc.files.images import limit_side, read_image
from misc.files.labels import write_mask
from misc.files.predictions import Cams
from misc.files.store import write_cams
from misc.run.device import in_turns, out_of_memory, pick_device, refines_on, side_step_for
from misc.run.each import Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.train.augment import resize, resize_maps
from misc.train.stage import require_files, trained_file
from net import AffinityNet, for_inference
from net.affinitynet import affinity
from net.weights import read_network
from pgt.affinity import IGNORE, RADIUS, background_score, pair_indices, walk_labels
from pgt.crf import dense_crf
from pgt.sizes import network_size
from step.cue import files_of, made_by, read_cued, settings_of, share_of
from step.sets import open_all, shard_of

if TYPE_CHECKING:
    from run_voc import SemSeg

SURE = "sem_seg_sure"
Walk = Callable[[np.ndarray, Cams], np.ndarray]


def run(args: Args, failures: Failures) -> None:
    crf = args.sem_seg.crf and args.sem_seg.crf.at_scale(args.crf_scale)
    params, images = replace(args.sem_seg, crf=crf), open_all(args)
    images = images.take(shard_of(args, len(images)))
    outs = ["sem_seg/{}.png", *([f"{SURE}/{{}}.png"] if params.confidence else [])]
    outs += ["sem_seg_soft/{}.npz"] if args.sem_seg_soft else []
    items = [
        Item(file, tuple(args.result_dir / out.format(name) for out in outs),
             (file, *files_of(name, args)), made_by(args))
        for name, file in zip(images.names, images.files, strict=True)
    ]  # fmt: skip
    require_files([item.reads[1] for item in items], "CAMs", "make_cam")
    share, walk, facts, settings = share_of(args), None, {}, asdict(params)
    if params.power == 1:
        del settings["power"]  # so that labels of earlier versions stay
    if settings.pop("walk"):
        weights = args.sem_seg_weights or trained_file(args, "aff", "sem_seg_weights")
        net, sha256 = args.kept("affinity", lambda: (read_network(weights, AffinityNet), sha256_of(weights)))
        device = pick_device(args.device, args.deterministic)
        step = side_step_for(device, args.side_step)
        embed = args.kept("embeds", lambda: embedder(net.to(device), refines_on(device)))
        walk = walker(embed, params, args.max_side, step)
        settings |= {"weights": sha256, **({"side_step": step} if step else {})}
        facts = {"network": net.facts.network, "weights": weights, "sha256": sha256}

    def make(item: Item, data: Sequence[Held]) -> list[Write]:
        image = read_image(data[0])
        cams = read_cued(data[1:], image.shape[:2], share)
        labels = np.append(0, cams.labels)
        with out_of_memory("lower --max_side"):
            scores = pseudo_scores(image, cams, walk, params, args.max_side)
        writes: list[Write] = [partial(write_mask, label=label_map(scores, labels, 0))]
        if params.confidence:
            writes.append(partial(write_mask, label=label_map(scores, labels, params.confidence)))
        if args.sem_seg_soft:
            writes.append(partial(write_cams, keys=labels, cam=scores))
        return writes

    settings |= {"max_side": args.max_side, "soft": args.sem_seg_soft, **settings_of(args)}
    each("make_sem_seg", items, settings, make, args, failures, key="sem_seg", facts=facts)


def embedder(net: AffinityNet, device: torch.device) -> Callable[[np.ndarray], Tensor]:
    """-> image (H,W,3) uint8 -> embeddings (1,448,h,w) float32 on device, for threads, by turns."""
    fast = for_inference(net)

    def embed(image: np.ndarray) -> Tensor:
        return fast(torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(fast.device)).float().to(device)

    return in_turns(embed, net.device)


def walker(embed: Callable[[np.ndarray], Tensor], params: SemSeg, max_side: int, step: int = 0) -> Walk:
    """-> image (H,W,3) uint8 and its CAMs -> scores (P+1,H,W) after a random walk, on the grid of the image times
    params.scale, at max_side at most. embed: of embedder; step: of network_size."""

    @torch.inference_mode()
    def walk(image: np.ndarray, cams: Cams) -> np.ndarray:
        size = limit_side(tuple(max(1, round(side * params.scale)) for side in image.shape[:2]), max_side)
        size = network_size(size, 1.0, step, least=1)
        features = embed(resize(image, size))
        cam = torch.from_numpy(resize_maps(cams.scores, size)).to(features.device)
        values = affinity(features, *pair_indices(RADIUS, features.shape[2:]))[0]
        how = {"alpha": params.alpha, "beta": params.beta, "exp_times": params.exp_times}
        return walk_labels(cam, cams.labels.tolist(), values, **how)[0].cpu().numpy()

    return walk


def pseudo_scores(image: np.ndarray, cams: Cams, walk: Walk | None, params: SemSeg, max_side: int) -> np.ndarray:
    """image (H,W,3) uint8 and its CAMs -> scores (P+1,H,W) float32 of background and present classes, which sum to 1.

    walk: of walker; None: the CAMs as they are, beside the background's score. The CRF is on the image at max_side at
    most.
    """
    size = image.shape[:2]
    if not cams.labels.size:
        return np.ones((1, *size), np.float32)
    if walk:
        scores = walk(image, cams)
    else:
        cam = torch.from_numpy(cams.scores)
        scores = torch.cat([background_score(cam, params.alpha)[None], cam]).numpy()
    scores = scores / np.maximum(scores.sum(0), 1e-8)
    if params.power != 1:
        scores = scores**params.power
        scores /= np.maximum(scores.sum(0), 1e-8)
    if params.crf is not None:
        crf_size = limit_side(size, max_side)
        scores = dense_crf(resize(image, crf_size), resize_maps(scores, crf_size), params.crf)
    return resize_maps(scores, size)


def label_map(scores: np.ndarray, labels: Sequence[int], confidence: float) -> np.ndarray:
    """scores (P+1,H,W) of labels (P+1,) -> (H,W) uint8: the first of the largest, IGNORE where that is below
    confidence."""
    label = np.asarray(labels, np.uint8)[scores.argmax(0)]
    label[scores.max(0) < confidence] = IGNORE
    return label
