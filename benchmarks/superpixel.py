"""python -m benchmarks.superpixel [--images ECSSD/images --masks ECSSD/masks] [--limit 40] [--repeats 3]

Run it from the root of the repository, with OMP_NUM_THREADS=1. Pictures and masks of one stem, without flags the sample
photographs. The numba SLIC of pgt/superpixel.py, in its three colour modes, against scikit-image's and, in an
environment that has opencv-contrib-python-headless instead of opencv-python-headless, OpenCV's SLIC, SLICO and MSLIC;
one thread, in turn on each picture.

Columns: median milliseconds per picture, median of scikit-image's time over it (same colour mode; "rgb" for OpenCV),
number of superpixels, boundary recall (share of mask edge pixels with a superpixel edge within 2 pixels, higher is
better), undersegmentation error (Neubert & Protzel 2012: area by which superpixels bleed over the mask, as a share of
the picture, lower is better), and achievable accuracy (every superpixel takes its majority label). MSLIC splits where
colours vary and leaves many more superpixels: compare its quality with care.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from skimage import segmentation

from benchmarks.peers import masks, pictures, same_names
from misc.files.images import read_gray, read_image
from misc.run.evaluation import exit_status
from pgt.superpixel import ITERATIONS, LAB_MODES, slic

REACH = 2  # pixels between an edge of the mask and one of the superpixels


def skimage_slic(
    image: np.ndarray, n_segments: int = 200, compactness: float = 20, lab: str = "single", num_iter: int = ITERATIONS
) -> np.ndarray:
    """scikit-image's own SLIC in the colour space of a mode; its labels begin at 1."""
    opencv_lab, to_lab = LAB_MODES[lab]
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float64) / 255 if opencv_lab else image
    return segmentation.slic(picture, n_segments, compactness, max_num_iter=num_iter, convert2lab=to_lab)


def opencv_slic(image: np.ndarray, segments: int, algorithm: str) -> np.ndarray:
    """OpenCV contrib on its Lab picture, region size for about so many segments, small regions merged."""
    size = round((image.shape[0] * image.shape[1] / segments) ** 0.5)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    superpixels = cv2.ximgproc.createSuperpixelSLIC(lab, getattr(cv2.ximgproc, algorithm), size, 20.0)
    superpixels.iterate(10)
    superpixels.enforceLabelConnectivity(25)
    return superpixels.getLabels()


def edges(labels: np.ndarray) -> np.ndarray:
    found = np.zeros(labels.shape, bool)
    found[:-1] |= labels[:-1] != labels[1:]
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return found


def quality(labels: np.ndarray, mask: np.ndarray) -> tuple[int, float, float, float]:
    """Number of superpixels, boundary recall, undersegmentation error, achievable accuracy."""
    near = cv2.dilate(edges(labels).astype(np.uint8), np.ones((2 * REACH + 1, 2 * REACH + 1), np.uint8)) > 0
    true_edges = edges(mask)
    recall = near[true_edges].mean() if true_edges.any() else 1.0
    area = np.bincount(labels.reshape(-1))
    inside = np.bincount(labels.reshape(-1), mask.reshape(-1))
    smaller_part = np.minimum(inside, area - inside).sum() / mask.size
    # each straddling superpixel counts its smaller part once for the object and once for the background
    return int((area > 0).sum()), float(recall), 2 * smaller_part, 1 - smaller_part


def engines(segments: int) -> dict[str, tuple[str, partial]]:
    """Name -> (the one to compare with, function of the image)."""
    found = {}
    for lab in LAB_MODES:
        peer = f"scikit-image {lab}"
        found[peer] = peer, partial(skimage_slic, n_segments=segments, lab=lab)
        found[f"numba {lab}"] = peer, partial(slic, n_segments=segments, lab=lab)
    if hasattr(cv2, "ximgproc"):
        for algorithm in ("SLIC", "SLICO", "MSLIC"):
            found[f"OpenCV {algorithm}"] = (
                "scikit-image rgb",
                partial(opencv_slic, segments=segments, algorithm=algorithm),
            )
    else:
        print("without OpenCV's SLIC, which opencv-contrib-python-headless has")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="pictures; none: the sample photographs")
    parser.add_argument("--masks", type=Path, help="their masks; none: those of the sample")
    parser.add_argument("--limit", type=int, default=40, help="how many pictures, spread over the folder")
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files, mask_of = pictures(args.images, "--images"), masks(args.masks, "--masks")
    files = dict(list(files.items())[:: max(1, len(files) // args.limit)][: args.limit])
    same_names(files, mask_of, f"--masks {args.masks}")
    ways = engines(args.segments)
    for _, way in ways.values():
        way(np.zeros((40, 40, 3), np.uint8))  # compile
    seconds = {name: [] for name in ways}
    scores = {name: [] for name in ways}
    for stem, path in files.items():
        image, mask = read_image(path), (read_gray(mask_of[stem]) > 127).astype(np.int64)
        for turn in range(args.repeats):
            for name, (_, way) in ways.items():
                started = time.perf_counter()
                labels = way(image)
                seconds[name].append(time.perf_counter() - started)
                if not turn:
                    scores[name].append(quality(labels, mask))
    print(f"{len(files)} pictures, {args.segments} segments")
    print("engine                     ms  ratio  number  recall      UE    ASA")
    for name, (peer, _) in ways.items():
        number, recall, error, accuracy = np.mean(scores[name], axis=0)
        ratio = np.median(np.array(seconds[peer]) / seconds[name])
        milliseconds = 1000 * np.median(seconds[name])
        print(f"{name:22} {milliseconds:6.1f} {ratio:6.2f} {number:7.0f}  {recall:.3f}  {error:.4f} {accuracy:.4f}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
