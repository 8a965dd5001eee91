"""run_slic, a whole image at a time, against the published way, in one process and one thread, in turn.

    python -m pip install pydensecrf2
    OMP_NUM_THREADS=1 python -m benchmarks.run_slic --img_root FOLDER --prob_root result/cam --limit 20

Published: scikit-image's SLIC on doubly converted Lab, superpixels numbered and averaged in Python loops, pydensecrf.
Ours: from reading the files to the PNG on disk, with scikit-image's superpixels, with our own, and as run_slic.py does.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import segmentation

import run_slic
import step.make_slic
from benchmarks.superpixel import skimage_slic
from data.saliency import open_folder
from misc.files.images import read_image
from pgt.superpixel import slic
from step.make_slic import make_slic
from step.refine import Pair, refine_one

PUBLISHED = run_slic.TABLE.resolve({"slic_recipe": "published"}).slic


def published(pair: Pair) -> None:
    import pydensecrf.densecrf as dcrf
    from pydensecrf.utils import create_pairwise_bilateral, unary_from_softmax

    image = read_image(pair.image)
    height, width = image.shape[:2]
    p = np.array(Image.open(pair.cam).resize((width, height)))
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
    crf.setUnaryEnergy(unary_from_softmax(np.stack([1 - p, p])))
    features = create_pairwise_bilateral(sdims=(80, 80), schan=(13, 13, 13), img=image, chdim=2)
    crf.addPairwiseGaussian(sxy=(3, 3), compat=3)
    crf.addPairwiseEnergy(features, compat=10)
    label = np.array(crf.inference(5))[1].reshape(height, width)
    Image.fromarray((label * 255).astype(np.uint8)).save(pair.out, "png")


def ours(pair: Pair, params: SlicParams, superpixels: Callable = slic) -> None:
    step.make_slic.slic = superpixels
    refine_one(pair, make_slic, params, 10_000, overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--img_root", type=Path, required=True)
    parser.add_argument("--prob_root", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=20)
    args = parser.parse_args()
    ways = {
        "published": published,
        "ours, scikit-image's superpixels": partial(ours, params=PUBLISHED, superpixels=skimage_slic),
        "ours, same labels": partial(ours, params=PUBLISHED),
        "ours, default": partial(ours, params=run_slic.Slic()),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        for i, (stem, path) in enumerate(open_folder(args.img_root, args.limit + 1, "--img_root").images.items()):
            for name, way in ways.items():
                started = time.perf_counter()
                way(Pair(path, args.prob_root / f"{stem}.png", Path(folder) / "out.png"))
                if i:  # the first image compiles
                    times[name].append(time.perf_counter() - started)
    for name, seconds in times.items():
        ratio = statistics.median(p / s for p, s in zip(times["published"], seconds, strict=True))
        print(f"{name:34} {statistics.median(seconds) * 1000:8.1f} ms per image, {ratio:5.1f} times as fast")


if __name__ == "__main__":
    main()
