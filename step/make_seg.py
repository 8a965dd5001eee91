"""The final network -> segmentations of images that need no labels.

    python run_voc.py ... --seg_splits train val                             also of the training images
    python -m step.make_seg photos --make_seg_weights result/my_set/ckpt/seg.pth        any folder, or one picture

Reads   the images of --seg_splits; RESULT_DIR/ckpt/seg.pth; for --bg_cue RESULT_DIR/sal/<name>.png
Writes  RESULT_DIR/seg/<name>.png, palette pictures as VOC's masks
Paper   Chen et al., DeepLab, ICLR 2015; the recipe is that of SEAM (CVPR 2020) and HFPL (WACV 2024)
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from misc.files.download import sha256_of
from misc.files.held import Held
from misc.files.images import at_most, read_image
from misc.files.labels import write_mask
from misc.run.apart import require_apart
from misc.run.device import in_turns, pick_device, side_step_for
from misc.run.each import Item, Write, each
from misc.run.failures import Failures
from misc.run.flags import Args, Device, Pass, Run, Shapes, Table, flag, pass_flags, stage
from misc.run.passes import run_passes
from misc.run.records import settings_beside
from misc.train.augment import resize, resize_maps
from misc.train.stage import trained_file
from net import Network, SegNet, for_inference
from net.network import resized
from net.weights import read_network
from pgt.crf import CRFParams, dense_crf
from pgt.cue import objects_with_saliency
from pgt.sizes import network_size
from step.cue import read_saliency, saliency_file, settings_of, share_of
from step.sal_labels import label_by_network
from step.sets import list_images, open_segmented, shard_of

RARE = 0.01  # a class that no pixel has with this probability is left out of the CRF, which could not make it win


def run(args: Args, failures: Failures) -> None:
    parts = [part.images for part in open_segmented(args).values()]
    files = {name: file for part in parts for name, file in zip(part.names, part.files, strict=True)}
    places = shard_of(args, len(files))
    segment(dict(islice(files.items(), places.start, places.stop)), args, failures)
    if not args.make_seg_weights and args.at_shard is None:
        print(f"new pictures: python -m step.make_seg FOLDER --make_seg_weights {trained_seg(args)}", flush=True)


def segment(files: Mapping[str, Path], args: Args, failures: Failures) -> None:
    """Writes RESULT_DIR/seg/<name>.png of every file."""
    weights = trained_seg(args)
    net, sha256 = args.kept("segmenter", lambda: (read_network(weights, SegNet), sha256_of(weights)))
    device = pick_device(args.device, args.deterministic)
    step = side_step_for(device, args.side_step)
    probabilities = args.kept("segments", lambda: segmenter(net.to(device), args.seg_scales, step))
    crf = args.seg_crf.at_scale(args.crf_scale) if args.seg_crf else None
    share = share_of(args)

    def make(item: Item, data: Sequence[Held]) -> list[Write]:
        image = read_image(data[0])
        small = at_most(image, args.max_side)
        prob = probabilities(small)
        if share:
            saliency = at_most(read_saliency(data[1], image.shape[:2]), args.max_side)
            prob = objects_with_saliency(prob, saliency, share)
        prob = prob if crf is None else refined(small, prob, crf)
        return [partial(write_mask, label=resize_maps(prob, image.shape[:2]).argmax(0).astype(np.uint8))]

    items = [
        Item(file, (args.result_dir / "seg" / f"{name}.png",),
             (file, *([saliency_file(name, args)] if share else [])), "make_sal")
        for name, file in files.items()
    ]  # fmt: skip
    settings = {"weights": sha256, "scales": args.seg_scales, "max_side": args.max_side, "crf": crf and asdict(crf)}
    settings |= ({"side_step": step} if step else {}) | settings_of(args)
    facts = {"network": net.facts.network, "weights": weights, "sha256": sha256}
    parts = [(b"", settings)]  # as of before there were other files than the image
    each("make_seg", items, lambda _: parts, make, args, failures, key="seg", facts=facts)


def trained_seg(args: Args) -> Path:
    return args.make_seg_weights or trained_file(args, "seg", "make_seg_weights")


def segmenter(net: SegNet, scales: Sequence[float], step: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """-> image (H,W,3) uint8 -> probabilities (C,H,W) float32, background first, for threads, by turns."""
    fast = for_inference(net)
    return in_turns(lambda image: multi_scale_logits(fast, image, scales, step).softmax(0).cpu().numpy(), net.device)


def multi_scale_logits(network: Network, image: np.ndarray, scales: Sequence[float], step: int = 0) -> Tensor:
    """image (H,W,3) uint8 -> logits (C,H,W) float32, the mean over scales and mirror images; step: of network_size.

    Each pair is averaged on its grid and brought to the image's size at once, not by way of its own as published.
    """
    total = 0
    for scale in scales:
        scaled = resize(image, network_size(image.shape[:2], scale, step, least=1))
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


def run_folder(args: Args, failures: Failures) -> None:
    """The pictures of --image_dir."""
    path = args.image_dir
    files = {path.stem: path} if path.is_file() else list_images(path, "--image_dir")
    files = dict(islice(files.items(), args.limit))
    if share_of(args):
        label_by_network(files, args, failures)
    segment(files, args, failures)
    names = read_network(trained_seg(args), SegNet).facts.class_names or ()
    print("labels: 0 background, " + ", ".join(f"{i} {name}" for i, name in enumerate(names, 1)), flush=True)


PASSES = {"make_seg": Pass(True, "step.make_seg:run_folder", "seg")}


@stage("pictures", of=("make_seg",))
class Pictures:
    image_dir: Path | None = flag(
        None, "pictures, subfolders included, or one picture", often=True, required=True, reads=True
    )
    limit: int | None = flag(None, "take only the first LIMIT images by name", often=True, at_least=1)


def parse(argv: Sequence[str] | None = None) -> Args:
    from run_voc import RECIPES, ROOT, Cue, MakeSal, Sal, Segmenter, Sizes

    recipes = {"seg_crf_recipe": RECIPES["seg_crf_recipe"]}
    stages = (
        pass_flags(PASSES),
        Pictures(),
        Segmenter(),
        Cue(),
        MakeSal(),
        Sal(),
        Sizes(),
        Run(result_dir=ROOT / "result"),
        Device(),
        Shapes(),
    )
    table = Table(__doc__, stages, recipes, positional="image_dir")
    args, given = table.parse(argv)
    require_apart(args, PASSES)  # before anything is read
    keys = [stage.key for stage in (Segmenter, Cue, Sal, Sizes)]
    own = [name for name, place in args.places.items() if place.where[0] in keys]
    return table.resolve({**settings_beside(args, trained_seg(args), "seg", own), **given})


def main(argv: Sequence[str] | None = None) -> int:
    return run_passes(PASSES, lambda: parse(argv))


if __name__ == "__main__":
    sys.exit(main())
