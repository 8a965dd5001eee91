"""What tells object from background in make_crf, make_sem_seg and make_seg: --bg_cue, and what make_sal wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.images import read_gray
from misc.files.predictions import Cams, read_cams
from misc.run.flags import Args
from pgt.cue import with_saliency


def share_of(args: Args) -> float:
    """How much of the highest map is saliency; 0: there is no other cue than the CAMs."""
    return {"cam": 0.0, "both": args.bg_share, "saliency": 1.0}[args.bg_cue]


def made_by(args: Args) -> str:
    """The steps that make files_of."""
    return "make_cam make_sal" if share_of(args) else "make_cam"


def settings_of(args: Args) -> dict[str, float]:
    """What results depend on."""
    share = share_of(args)
    return {"bg_share": share} if share else {}


def files_of(name: str, args: Args) -> tuple[Path, ...]:
    """The files of an image that read_cued takes."""
    cam = args.result_dir / "cam" / f"{name}.npz"
    return (cam, saliency_file(name, args)) if share_of(args) else (cam,)


def saliency_file(name: str, args: Args) -> Path:
    return args.result_dir / "sal" / f"{name}.png"


def read_cued(files: Sequence[Held], size: tuple[int, int], share: float) -> Cams:
    """The CAMs of an image of this size (H, W), with its saliency where there is a share of that. Raises OSError as
    read_cams, and for saliency of another size."""
    cams = read_cams(files[0], size)
    if not share or not cams.labels.size:
        return cams
    saliency = read_saliency(files[1], size)
    return Cams(cams.labels, with_saliency(cams.scores, saliency, share))


def read_saliency(file: Held, size: tuple[int, int]) -> np.ndarray:
    """(H,W) float32 in [0,1]. Raises OSError for a file that cannot be read, or is of another size."""
    try:
        saliency = read_gray(file)
    except OSError as e:
        raise OSError(f"its saliency {file.path} cannot be read: {e}") from e
    if saliency.shape != size:
        raise OSError(f"its saliency {file.path} is {saliency.shape[::-1]}, the image {size[::-1]} (width, height)")
    return saliency.astype(np.float32) / 255
