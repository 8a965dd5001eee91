"""Label maps against masks: RESULT_DIR/seg here, RESULT_DIR/sem_seg in step/eval_sem_seg.py.

Reads   RESULT_DIR/<kind>/<name>.png; the masks of --eval_splits
Writes  RESULT_DIR/metrics.json: kind -> split -> miou, contour_f and iou, all from 0 to 1, and n;
        RESULT_DIR/scores/<kind>.csv, a row per image
Paper   HFPL (WACV 2024); pgt/metrics/segmentation.py
"""

from functools import partial

from misc.report.kinds import SEG
from misc.report.seg_scores import score_splits
from misc.run.failures import Failures
from misc.run.flags import Args
from step.sets import open_eval, shard_of


def run(args: Args, failures: Failures) -> None:
    score_splits(SEG, open_eval(args), partial(shard_of, args), args, failures)
