"""A picture of what came out: image | CAM | labels | mask, a row each for the first images.

Reads   the images of --sal_dataset_dir; RESULT_DIR/cam, cam_pamr, cam_slic and masks, whichever are there
Writes  RESULT_DIR/overview.png
"""

from pathlib import Path

import numpy as np

from data.saliency import open_folder
from misc.files.images import find_images, read_gray, read_image
from misc.files.store import write_png
from misc.report.overview import cam_overlay, contact_sheet
from step.eval import label_dirs

TITLES = {"cam_pamr": "pixel-wise label", "cam_slic": "superpixel-wise label"}


def run(args, failures) -> None:
    folder = open_folder(args.sal_dataset_dir, args.limit)
    mask_dir = args.mask_dir or folder.mask_dir
    masks = find_images(mask_dir, "--mask_dir") if mask_dir else {}
    stems = [stem for stem, path in folder.images.items() if path not in failures][: args.overview_rows]
    rows = [row(folder.images[stem], stem, label_dirs(args), masks.get(stem)) for stem in stems]
    if rows:
        write_png(args.result_dir / "overview.png", contact_sheet(rows))
        print(f"make_overview: {args.result_dir / 'overview.png'}")


def row(image_path: Path, stem: str, dirs: dict[str, Path], mask: Path | None) -> dict[str, np.ndarray]:
    image = read_image(image_path)
    pictures = {"image": image}
    for kind, folder in dirs.items():
        path = folder / f"{stem}.png"
        if path.is_file():
            gray = read_gray(path)
            if kind != "cam":
                pictures[TITLES[kind]] = gray
            elif gray.shape == image.shape[:2]:
                pictures["CAM"] = cam_overlay(image, gray)
    if mask:
        pictures["mask"] = read_gray(mask)
    return pictures
