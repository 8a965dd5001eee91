"""python -m benchmarks.run_slic [--img_root ECSSD/images --prob_root result/cam] [--limit 20]

Run it from the root of the repository, with OMP_NUM_THREADS=1. run_slic, a whole image at a time, against the published
way with pydensecrf2 (benchmarks/requirements.txt), in one process and one thread, in turn; without flags what
run_sample.py made of the sample photographs.

Published: scikit-image's SLIC on doubly converted Lab, superpixels numbered and averaged in Python loops, pydensecrf.
Ours: from reading the files to the PNG on disk, with scikit-image's superpixels, with our own, and as run_slic.py does.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import segmentation

import run_slic
import step.make_slic
from benchmarks.peers import maps, peer, pictures, same_names
from benchmarks.superpixel import skimage_slic
from misc.files.held import Held
from misc.files.images import at_size, read_gray, read_image
from misc.files.store import fingerprint, write_png
from misc.run.evaluation import exit_status
from pgt.superpixel import slic

PUBLISHED = run_slic.TABLE.resolve({"slic_recipe": "published"}).slic


@dataclass(frozen=True)
class Files:
    image: Path
    cam: Path
    out: Path


def published(files: Files) -> None:
    dcrf, utils = peer("pydensecrf.densecrf", "pydensecrf2"), peer("pydensecrf.utils", "pydensecrf2")
    image = read_image(files.image)
    height, width = image.shape[:2]
    p = np.array(Image.open(files.cam).resize((width, height)))
    mean = p.mean()
    p[p > 1.2 * mean], p[p < 0.7 * mean] = 255, 0
    p = p / 255
    labels = segmentation.slic(cv2.cvtColor(image, cv2.COLOR_RGB2LAB) / 255.0, n_segments=200, compactness=20)
    one_hot = np.arange(labels.max() + 1) == labels[..., None]
    one_hot = one_hot[:, :, one_hot.sum(0).sum(0) > 0]
    rows, columns, numbers = np.where(one_hot)
    for i, number in enumerate(numbers):
        labels[rows[i], columns[i]] = number
    means = [p[labels == i].mean() for i in range(labels.max() + 1)]
    averaged = np.zeros(p.shape)
    for i in range(labels.max() + 1):
        averaged[labels == i] = means[i]
    p = averaged
    crf = dcrf.DenseCRF2D(width, height, 2)
    crf.setUnaryEnergy(utils.unary_from_softmax(np.stack([1 - p, p])))
    features = utils.create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2)
    crf.addPairwiseGaussian(sxy=(3, 3), compat=3)
    crf.addPairwiseEnergy(features, compat=10)
    label = np.array(crf.inference(5))[1].reshape(height, width)
    Image.fromarray((label * 255).astype(np.uint8)).save(files.out, "png")


def ours(files: Files, params: run_slic.Slic, superpixels: Callable[..., np.ndarray] = slic) -> None:
    step.make_slic.slic = superpixels
    data = [Held(files.image), Held(files.cam)]
    made_from = fingerprint(*(file.getvalue() for file in data), asdict(params))
    image = read_image(data[0])
    label = step.make_slic.make_slic(image, at_size(read_gray(data[1]), image.shape[:2]), params)
    write_png(files.out, label, made_from)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img_root", type=Path, help="pictures; none: the sample photographs")
    parser.add_argument("--prob_root", type=Path, default=Path("result/cam"), help="their maps")
    parser.add_argument("--limit", type=int, default=20)
    args = parser.parse_args()
    peer("pydensecrf.densecrf", "pydensecrf2")
    ways = {
        "published": published,
        "ours, scikit-image's superpixels": partial(ours, params=PUBLISHED, superpixels=skimage_slic),
        "ours, same labels": partial(ours, params=PUBLISHED),
        "ours, default": partial(ours, params=run_slic.Slic()),
    }
    cams = maps(args.prob_root, "--prob_root")
    images = dict(list(pictures(args.img_root, "--img_root").items())[: args.limit + 1])
    same_names(images, cams, f"--prob_root {args.prob_root}")
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for i, (stem, path) in enumerate(images.items()):
            for name, way in ways.items():
                started = time.perf_counter()
                way(Files(path, cams[stem], Path(folder) / "out.png"))
                if i:  # the first image compiles
                    times[name].append(time.perf_counter() - started)
    for name, seconds in times.items():
        ratio = statistics.median(p / s for p, s in zip(times["published"], seconds, strict=True))
        print(f"{name:34} {statistics.median(seconds) * 1000:8.1f} ms per image, {ratio:5.1f} times as fast")


if __name__ == "__main__":
    sys.exit(exit_status(main))
