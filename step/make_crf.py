"""Class activation maps -> CRF maps with much and with little background, for the labels of AffinityNet.

Reads   the images of the set (step/seg_set.py); RESULT_DIR/cam/<name>.npz
Writes  RESULT_DIR/crf_la/<name>.npz and crf_ha: keys (P+1,), labels, background 0 first; cam (P+1,H,W) uint8,
        marginals; scale: cam * scale is in [0,1]
Paper   Ahn & Kwak, CVPR 2018 (section 3.2); SEAM and HFPL for the parameters
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from misc.files.images import limit_side, read_image
from misc.files.predictions import Cams, read_prediction
from misc.files.store import fingerprint, is_current, require_writable, write_cams
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.crf import CRF_RECIPES, CRFParams, mean_field, unary_from_cam
from step.seg_set import open_train

FOLDERS = ("crf_la", "crf_ha")


@dataclass(frozen=True)
class Item:
    name: str
    image: Path


def run(args, failures) -> None:
    images = open_train(args).images
    for folder in FOLDERS:
        require_writable(args.result_dir / folder)
    cv2.setNumThreads(1)  # the workers are the parallelism
    params = crf_params("wsss_cam", args.crf_num_iter, args)
    items = [Item(*pair) for pair in zip(images.names, images.files, strict=True) if pair[1] not in failures]
    work = partial(make_one, result_dir=args.result_dir, params=params, alphas=args.crf_alphas,
                   max_side=args.max_side, overwrite=args.overwrite)  # fmt: skip
    made, held = 0, 0
    done = parallel_map(work, items, num_workers_for(args.num_workers, len(items)))
    for item, result in progress(done, len(items), "make_crf", args.quiet):
        if isinstance(result, OSError):
            failures.add("make_crf", item.image, result)
        elif result:
            made, held = made + 1, held + result
    size = f" of {held / made / 1000:.1f} kB" if made else ""
    print(f"make_crf: {made} pairs of maps{size} made, {len(images) - made} kept or failed, in {args.result_dir}")


def crf_params(recipe: str, num_iter: int, args) -> CRFParams:
    """A recipe of CRF_RECIPES as the flags want it."""
    return replace(CRF_RECIPES[recipe], num_iter=num_iter).at_scale(args.crf_scale)


def make_one(
    item: Item, result_dir: Path, params: CRFParams, alphas: Sequence[float], max_side: int, overwrite: bool
) -> int:
    """Makes both maps of an image; -> their bytes, 0 where there was nothing to do."""
    cam_path = result_dir / "cam" / f"{item.name}.npz"
    if not cam_path.is_file():
        raise FileNotFoundError(f"its maps {cam_path} are missing: run make_cam")
    data, settings = item.image.read_bytes(), {**asdict(params), "max_side": max_side}
    prints = [fingerprint(data, cam_path, {**settings, "alpha": alpha}) for alpha in alphas]
    outs = [result_dir / folder / cam_path.name for folder in FOLDERS]
    if not overwrite and all(map(is_current, outs, prints)):
        return 0
    image = read_image(io.BytesIO(data))
    cams = _cams_of(cam_path, image.shape[:2])
    for out, made_from, alpha in zip(outs, prints, alphas, strict=True):
        prob = crf_map(image, cams.scores, alpha, params, max_side)
        write_cams(out, np.append(0, cams.labels), prob, made_from)
    return sum(out.stat().st_size for out in outs)


def _cams_of(path: Path, size: tuple[int, int]) -> Cams:
    try:
        cams = read_prediction(path)
    except OSError as e:
        raise OSError(f"its maps {path} cannot be read: {e}") from e
    if not cams.labels.size:
        return Cams(cams.labels, np.zeros((0, *size), np.float32))
    if cams.scores.shape[1:] != size:
        raise OSError(f"its maps {path} are of another size; run make_cam again")
    return cams


def crf_map(image: np.ndarray, cam: np.ndarray, alpha: float, params: CRFParams, max_side: int = 1 << 30) -> np.ndarray:
    """image (H,W,3) uint8 RGB, cam (P,H,W) in [0,1] of its classes -> marginals (P+1,H,W), background first.

    Background scores (1 - max cam)^alpha. Of a longer side than max_side the CRF sees a smaller copy. P = 0: all
    background.
    """
    if not len(cam):
        return np.ones((1, *image.shape[:2]), np.float32)
    size = limit_side(image.shape[:2], max_side)
    if size == image.shape[:2]:
        return mean_field(image, unary_from_cam(cam, alpha), params)
    small = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    cam = np.stack([cv2.resize(c, size[::-1], interpolation=cv2.INTER_AREA) for c in cam])
    prob = mean_field(small, unary_from_cam(cam, alpha), params)
    return np.stack([cv2.resize(p, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) for p in prob])
