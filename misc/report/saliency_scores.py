"""Saliency maps against masks."""

import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.images import at_size, read_gray, read_mask
from misc.report.score_files import Read, digest_of, rounded
from misc.run.evaluation import Files, compare
from misc.run.failures import Told
from misc.run.flags import Args
from pgt.metrics.saliency import SaliencyMetrics, SaliencyScores, saliency_scores

COLUMNS = ("n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure")
IMAGE_COLUMNS = ("mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "max_e", "mean_e", "adp_e")


def score_maps(
    folder: Path,
    masks: Files,
    preds: Files,
    args: Args,
    failures: Told,
    read: Read = Held,
    fit: bool = False,
) -> tuple[dict[str, float | np.ndarray], list[tuple]]:
    """What the maps in folder are worth, and a row per image: its name, digest and IMAGE_COLUMNS.

    fit: maps that are smaller than their masks are brought to their sizes. -> n and, where there is an image,
    SaliencyMetrics' results, with e_measure, which is mean_e.
    """
    metrics, rows, objects = SaliencyMetrics(), [], 0
    for digest, scores, has_object in compare(
        "eval", folder, masks, partial(score_map, read=read, fit=fit), args, failures, preds
    ):
        metrics.add(scores)
        objects += has_object
        rows.append((scores.name, digest, *rounded(getattr(scores, key) for key in IMAGE_COLUMNS)))
    if rows and not objects:
        print(
            f"warning: {folder}: none of {len(rows)} masks holds an object, so the scores say nothing", file=sys.stderr
        )
    results = metrics.get_results() if rows else {}
    return {"n": len(rows), **results, **({"e_measure": results["mean_e"]} if rows else {})}, rows


def score_map(
    name: str, path: Path, mask_path: Path, read: Read, fit: bool = False
) -> tuple[str, SaliencyScores, bool]:
    """-> digest, scores, whether the mask holds an object. Raises OSError where a file is missing or corrupt, or the
    map not of the mask's size."""
    try:
        mask_file = read(mask_path)
        mask = read_mask(mask_file)
    except OSError as e:
        raise OSError(f"its mask {mask_path} {e}") from e
    pred = read_gray(file := Held(path))
    if fit:
        with suppress(ValueError):  # which the next line tells
            pred = at_size(pred, mask.shape)
    if pred.shape != mask.shape:
        raise OSError(f"is {pred.shape[::-1]}, its mask {mask_path} {mask.shape[::-1]} (width, height)")
    return digest_of(file, mask_file), saliency_scores(pred, mask, name=name), bool(mask.any())
