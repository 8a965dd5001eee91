"""A picture of what came out: image | CAM | labels | mask, a row each for the first images.

Reads   the images of --sal_dataset_dir; RESULT_DIR/<kind> of misc/report/kinds.py and masks, where they are
Writes  RESULT_DIR/overview.png
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from misc.files.images import at_most, at_size, read_gray, read_image
from misc.files.store import write_png
from misc.report.kinds import SALIENCY, Kind, folders
from misc.report.overview import cam_overlay, contact_sheet
from misc.run.evaluation import compare
from misc.run.failures import Failures
from misc.run.flags import Args
from step.sets import each_image

_SIDE = 4096  # of the pictures of a row, which wait in memory for those of all rows


def run(args: Args, failures: Failures) -> None:
    usable = ((stem, path, mask) for stem, path, mask in each_image(args) if path not in failures)
    first = list(islice(usable, args.overview_rows))
    images, masks = {stem: path for stem, path, _ in first}, {stem: mask for stem, _, mask in first}
    work = partial(row, dirs=folders(SALIENCY, args))
    rows = list(compare("overview", args.result_dir, masks, work, args, failures, images))
    if rows:
        write_png(args.result_dir / "overview.png", contact_sheet(rows))
        print(f"overview: {args.result_dir / 'overview.png'}")


def row(stem: str, image_path: Path, mask: Path | None, dirs: Mapping[Kind, Path]) -> dict[str, np.ndarray]:
    """title -> picture, of what there is; a map that is not of the image's shape is left out."""
    image = at_most(read_image(image_path), _SIDE)
    pictures = {"image": image}
    for kind, folder in dirs.items():
        path = folder / f"{stem}.png"
        if path.is_file():
            gray = at_most(read_gray(path), _SIDE)
            if kind.style != "heat":
                pictures[kind.title] = gray
                continue
            with suppress(ValueError):
                pictures[kind.title] = cam_overlay(image, at_size(gray, image.shape[:2]))
    if mask:
        pictures["mask"] = at_most(read_gray(mask), _SIDE)
    return pictures
