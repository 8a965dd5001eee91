"""Labels in the formats that other tools read.

    python -m step.export --pred_dir A --image_dir B --format coco --dataset voc12          A/<name>.png|npz|npy
    python -m step.export --pred_dir result/cam_pamr --image_dir B --format voc --threshold 0.5   gray saliency labels
    python -m step.export --pred_dir A --image_dir B --format labelme --simplify False      exact to the pixel

Reads   PRED_DIR/<name>.png|npz|npy, label maps or CAMs; gray saliency labels with --dataset saliency, its default
Writes  coco: OUT_DIR/instances.json; voc: OUT_DIR/SegmentationClass, ImageSets, labelmap.txt; labelme:
        OUT_DIR/<name>.json; masks: OUT_DIR/<name>.png, 0 and 255; cutout: OUT_DIR/<name>.png, transparent around the
        objects; overlay: OUT_DIR/<name>.jpg, the label over the image
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.datasets import DATASETS, DatasetSpec, get_dataset
from misc.errors import InputError
from misc.files.images import image_size, read_gray, read_image
from misc.files.predictions import FIRST_LABEL, Cams, read_prediction
from misc.report.export import OF_ALL, OF_ONE, Labelled
from misc.report.kinds import EXPORT_FORMATS, SALIENCY, Simplify, folders
from misc.run.evaluation import Command, Files, Strict, compare, main_of
from misc.run.failures import Failures, Told
from misc.run.flags import Args, Table, flag, stage
from step.sets import list_images, open_images

SPEC = DATASETS["saliency"]


def run(args: Args, failures: Failures) -> None:
    """As a stage of a run: every kind of saliency label, in the format args.export, to
    RESULT_DIR/export/<format>/<kind>."""
    images = open_images(args).images
    images = {stem: path for stem, path in images.items() if path not in failures}
    read = partial(read_saliency, threshold=args.export_threshold)
    for kind, folder in folders(SALIENCY, args).items():
        if kind.style != "heat":
            out_dir = args.result_dir / "export" / args.export / kind.key
            options = options_of(args.export, args.export_shapes, args.export_simplify)
            export_folder(folder, images, read, SPEC, args.export, out_dir, failures, args, **options)


def options_of(fmt: str, shapes: str, simplify: Simplify | None, split: str = "train") -> dict[str, Any]:
    """Of the formats that have some."""
    known = {
        "coco": {"shapes": shapes, "simplify": simplify},
        "voc": {"split": split},
        "labelme": {"simplify": simplify},
    }
    return known.get(fmt, {})


def export_folder(
    folder: Path,
    images: Files,
    read: Callable[[Path], np.ndarray],
    spec: DatasetSpec,
    fmt: str,
    out_dir: Path,
    failures: Told,
    args: Args,
    **options: Any,
) -> None:
    """The labels in folder of all images (stem -> file); what cannot be used is added to failures."""
    of_one, empty, kept = OF_ONE.get(fmt), [], []

    def work(name: str, path: Path, image: Path) -> tuple[Labelled, bool]:
        item = read_one(name, path, image, read)
        return item, of_one is None or of_one(item, spec, out_dir, **options)

    def labelled() -> Iterator[Labelled]:
        for item, written in compare("export", folder, images, work, args, failures):
            empty.append(not item.inside(spec).any())
            kept.append(not written)
            yield item

    n = sum(1 for _ in labelled()) if of_one else OF_ALL[fmt](labelled(), spec, out_dir, **options)
    without = f", {sum(empty)} without an object" * any(empty)
    changed = f", {sum(kept)} that somebody has changed kept (delete them to have them made anew)" * any(kept)
    print(f"export: {n} labels of {folder} as {fmt} in {out_dir}{without}{changed}")
    if n and all(empty):
        print(f"warning: {folder}: none of its {n} labels holds an object, so the export is empty", file=sys.stderr)


def read_one(name: str, path: Path, image: Path, read: Callable[[Path], np.ndarray]) -> Labelled:
    """With the label that read gives. Raises OSError where it cannot be used, or is not of the image's size."""
    label, shape = read(path), image_size(image)
    if shape == (1, 1):  # also of a file that is no picture: reading it says why
        try:
            shape = read_image(image).shape[:2]
        except OSError as e:
            raise OSError(f"its image {image} {e}") from e
    if not label.size:  # CAMs of no class
        return Labelled(image, np.zeros(shape, np.uint8), name)
    if label.shape != shape:
        raise OSError(f"is {label.shape[::-1]}, its image {image} {shape[::-1]} (width, height)")
    return Labelled(image, label, name)


def read_saliency(path: Path, threshold: float) -> np.ndarray:
    """-> (H,W) uint8, 1 at and above the threshold (of 0..1)."""
    return (read_gray(path) >= threshold * 255).astype(np.uint8)


def read_labels(path: Path, spec: DatasetSpec, keys: str, bg_score: float) -> np.ndarray:
    """-> (H,W) labels. Raises OSError also for labels that the data set does not have."""
    held = read_prediction(path, keys)
    label = held.label_map(bg_score) if isinstance(held, Cams) else held
    outside = (label != spec.ignore) & ((label < 0) | (label >= spec.num_classes))
    if outside.any():
        raise OSError(f"holds {label[outside][0]}, which is no label of {spec.name}")
    return label


def export_all(args: Args, failures: Strict) -> None:
    spec = get_dataset(args.dataset)
    if not args.pred_dir.is_dir():
        raise InputError(f"--pred_dir {args.pred_dir}: no such folder")
    images = list_images(args.image_dir, "--image_dir")
    if spec.name == SPEC.name:
        read = partial(read_saliency, threshold=args.threshold)
    else:
        read = partial(read_labels, spec=spec, keys=args.keys, bg_score=args.bg_score)
    options = options_of(args.format, args.shapes, args.simplify, args.split)
    export_folder(args.pred_dir, images, read, spec, args.format, args.out_dir, failures, args, **options)


@stage("labels, and what becomes of them")
class Labels:
    pred_dir: Path | None = flag(None, "labels", often=True, required=True, reads=True)
    image_dir: Path | None = flag(
        None, "their images; each needs a label of its name", often=True, required=True, reads=True
    )
    out_dir: Path | None = flag(None, "everything is written below this folder", often=True, required=True, writes=True)
    format: str | None = flag(None, "what to write", often=True, required=True, choices=EXPORT_FORMATS)
    dataset: str = flag(SPEC.name, "saliency, voc12, coco14, or a file of class names", often=True)
    threshold: float = flag(0.5, "saliency: foreground at and above this", at_least=0, at_most=1)
    keys: str = flag("foreground", "what key 0 of CAM files is", choices=tuple(FIRST_LABEL))
    bg_score: float = flag(0.25, "background's score in CAMs", at_least=0, at_most=1)
    shapes: str = flag("rle", "coco: polygons fill holes", choices=("rle", "polygons"))
    simplify: Simplify | None = flag(Simplify(), "labelme, coco: simpler polygons; False: exact to the pixel")
    split: str = flag("train", "voc: name of the list")


main = main_of(Table(__doc__, (Labels(), Command())), export_all)

if __name__ == "__main__":
    sys.exit(main())
