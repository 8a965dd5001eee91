"""Class activation maps against masks, at all background thresholds.

Reads   RESULT_DIR/cam/<name>.npz; the masks of --eval_splits
Writes  RESULT_DIR/metrics.json: "cam" -> split -> miou, contour_f and iou at the best threshold, best_threshold, sweep
        (the mIoU at 0, 0.01, ..., 0.59) and contour_f_at_<cam_bg_score>, all from 0 to 1, and n; with --bg_cue both or
        saliency also mask_free_threshold, at which the training images' CAMs agree best with their saliency, and
        miou_mask_free, the mIoU there;
        RESULT_DIR/scores/cam.csv, a row per image, at the best threshold
Paper   SEAM (CVPR 2020), HFPL (WACV 2024); pgt/metrics/segmentation.py
"""

from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec
from misc.files.held import Held, Kept
from misc.files.images import image_size
from misc.files.predictions import read_cams
from misc.report.kinds import SEG_CAM
from misc.report.seg_scores import Scores, score_folder, write_splits
from misc.run.evaluation import Files
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.progress import progress, talk_of
from pgt.cue import agreement
from pgt.metrics.segmentation import THRESHOLDS
from step.cue import files_of, read_saliency, share_of
from step.sets import open_eval, open_train


def run(args: Args, failures: Failures) -> None:
    parts, folder = open_eval(args), SEG_CAM.folder(args)
    has_saliency = share_of(args) and (args.result_dir / "sal").is_dir()
    chosen = without_masks(args, failures) if has_saliency and parts else None
    scored = {split: score(folder, p.masks, p.spec, args, failures, chosen) for split, p in parts.items() if p.masks}
    write_splits(SEG_CAM, parts, scored, args)


def without_masks(args: Args, failures: Failures) -> int:
    """The place among THRESHOLDS at which the training images' CAMs agree best with their saliency."""
    images = open_train(args).images

    def agreed(place: int) -> np.ndarray:
        file, name = images.files[place], images.names[place]
        cam, sal = (Held(path) for path in files_of(name, args))
        size = image_size(file)
        return agreement(read_cams(cam, size).scores, read_saliency(sal, size), THRESHOLDS)

    found = parallel_map(agreed, range(len(images)), num_workers_for(args.num_workers, len(images)))
    total = np.zeros(len(THRESHOLDS))
    for place, one in progress(found, len(images), "agreement", talk_of(args)):
        if isinstance(one, OSError):
            failures.add("eval_cam", images.files[place], one)
        else:
            total += one
    return int(total.argmax())


def score(
    folder: Path, masks: Files, spec: DatasetSpec, args: Args, failures: Failures, chosen: int | None
) -> tuple[Scores, dict]:
    """All thresholds at once; then, from the files in memory, contours at the best one. chosen: the place of the one
    that no mask has chosen."""
    read = Kept()
    given = score_folder(folder, masks, spec, args, failures, bg_score=args.cam_bg_score, read=read)
    sweep = given.sweep.get_results()
    best, usable = sweep["best_threshold"], {name: masks[name] for name, *_ in given.rows}
    at_best = score_folder(folder, usable, spec, args, failures, bg_score=best, read=read)
    more = {"best_threshold": best, f"contour_f_at_{args.cam_bg_score:g}": given.contour_f, "sweep": sweep["miou"]}
    if chosen is not None:
        more |= {"mask_free_threshold": float(THRESHOLDS[chosen]), "miou_mask_free": sweep["miou"][chosen]}
    return at_best, more
