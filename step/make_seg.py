"""The final network -> segmentations of images that need no labels.

    python run_voc.py ... --seg_splits train val                             also of the training images
    python -m step.make_seg --make_seg_weights seg.pth --image_dir photos --result_dir out      any folder of pictures

Reads   the images of --seg_splits; RESULT_DIR/ckpt/seg.pth
Writes  RESULT_DIR/seg/<name>.png, palette pictures as VOC's masks
Paper   Chen et al., DeepLab, ICLR 2015; the recipe is that of SEAM (CVPR 2020) and HFPL (WACV 2024)
"""

import argparse
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from misc.files.download import sha256_of
from misc.files.images import find_images, limit_side
from misc.run.device import autocast, pick_device
from misc.run.flags import Flags, add_device_flags, add_run_flags, flag, positive_int
from misc.run.passes import run_passes
from misc.run.seg_args import DEFAULTS, ROOT, add_crf_scale, add_segmenter_flags
from misc.train.augment import resize, resize_maps
from misc.train.stage import trained_file
from net import Network, SegNet, for_inference
from net.network import resized
from pgt.crf import CRFParams, dense_crf
from step.make_crf import crf_params
from step.make_sem_seg import Item, label_images, read_network
from step.seg_set import open_split

_FLAGS = (
    "make_seg_weights",
    "seg_scales",
    "seg_crf",
    "seg_crf_recipe",
    "seg_crf_num_iter",
    "crf_scale",
    "max_side",
    "result_dir",
    "limit",
)
_FLAGS += ("num_workers", "overwrite", "quiet", "device")
RARE = 0.01  # a class that no pixel has with this probability is left out of the CRF, which could not make it win


def run(args, failures) -> None:
    parts = [open_split(args, split).images for split in dict.fromkeys(args.seg_splits)]
    files = {name: file for part in parts for name, file in zip(part.names, part.files, strict=True)}
    segment(files, args, failures)


def segment(files: dict[str, Path], args, failures) -> None:
    """Writes RESULT_DIR/seg/<name>.png of every file."""
    weights = args.make_seg_weights or trained_file(args, "seg", "make_seg_weights")
    network = Segmenter(read_network(weights, SegNet).to(pick_device(args.device)), args.seg_scales)
    crf = crf_params(args.seg_crf_recipe, args.seg_crf_num_iter, args) if args.seg_crf else None
    settings = {"weights": sha256_of(weights), "scales": args.seg_scales, "max_side": args.max_side,
                "crf": asdict(crf) if crf else None}  # fmt: skip

    def label_of(image: np.ndarray, item: Item) -> np.ndarray:
        small = resize(image, limit_side(image.shape[:2], args.max_side))
        prob = network(small)
        prob = prob if crf is None else refined(small, prob, crf)
        return resize_maps(prob, image.shape[:2]).argmax(0).astype(np.uint8)

    items = [Item(file, args.result_dir / "seg" / f"{name}.png") for name, file in files.items()]
    label_images("make_seg", items, label_of, settings, args, failures)


class Segmenter:
    """A SegNet for threads, which take turns: it needs the most memory, and has threads of its own."""

    def __init__(self, network: SegNet, scales: Sequence[float]):
        self.net, self.scales, self._turn = for_inference(network), scales, threading.Lock()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """image (H,W,3) uint8 -> probabilities (C,H,W) float32, background first."""
        with self._turn, autocast(self.net.device):
            return multi_scale_logits(self.net, image, self.scales).softmax(0).cpu().numpy()


def multi_scale_logits(network: Network, image: np.ndarray, scales: Sequence[float]) -> Tensor:
    """image (H,W,3) uint8 -> logits (C,H,W) float32, the mean over scales and mirror images.

    Each pair is averaged on its grid and brought to the image's size at once, not by way of its own as published.
    """
    total = 0
    for scale in scales:
        scaled = resize(image, tuple(max(1, round(side * scale)) for side in image.shape[:2]))
        img = torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None].to(network.device)
        straight, mirrored = network.grid(torch.cat([img, img.flip(3)])).float()
        total = total + resized((straight + mirrored.flip(2))[None] / 2, image.shape[:2])[0]
    return total / len(scales)


def refined(image: np.ndarray, prob: np.ndarray, crf: CRFParams) -> np.ndarray:
    """image (H,W,3) uint8, probabilities (C,H,W) -> those after a CRF over the classes that are not RARE."""
    keep = np.flatnonzero(prob.max((1, 2)) >= RARE)
    if len(keep) < 2:
        return prob
    out = np.zeros_like(prob)
    out[keep] = dense_crf(image, np.ascontiguousarray(prob[keep]), crf)
    return out


def run_folder(args, failures) -> None:
    """The pictures of --image_dir; a name is a stem."""
    files = find_images(args.image_dir, "--image_dir")
    segment(dict(islice(files.items(), args.limit)), args, failures)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    flags = Flags(__doc__, {"image_dir": None, "make_seg": True, **{name: DEFAULTS[name] for name in _FLAGS}})
    g = flags.group("make_seg: a final network, and pictures -> RESULT_DIR/seg/<stem>.png")
    g.add("make_seg", flag, "run this stage")
    g.add("image_dir", Path, "pictures, subfolders included", required=True)
    g.add("max_side", positive_int, "a longer side is scaled down to this")
    add_segmenter_flags(g)
    add_crf_scale(g)
    add_run_flags(flags)
    add_device_flags(flags)
    args = flags.parse(argv)
    args.result_dir = args.result_dir or ROOT / "result"
    return args


def main(argv: list[str] | None = None) -> int:
    return run_passes({"make_seg": "step.make_seg:run_folder"}, lambda: parse(argv))


if __name__ == "__main__":
    sys.exit(main())
