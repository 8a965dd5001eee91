"""Labels in the formats that other tools read.

    python -m step.export --pred_dir A --image_dir B --format coco --dataset voc12          A/<name>.png|npz|npy
    python -m step.export --pred_dir result/cam_pamr --image_dir B --format voc --threshold 0.5   gray saliency labels

Reads   PRED_DIR/<name>.png|npz|npy, label maps or CAMs; gray saliency labels with --dataset saliency, its default
Writes  coco: OUT_DIR/instances.json; voc: OUT_DIR/SegmentationClass, ImageSets, labelmap.txt; labelme:
        OUT_DIR/<name>.json;
        masks: OUT_DIR/<name>.png, 0 and 255
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from data.datasets import DATASETS, DatasetSpec, get_dataset
from misc.errors import InputError
from misc.files.images import image_size, read_gray, read_image
from misc.files.predictions import FIRST_LABEL, Cams, read_prediction
from misc.report.export import FORMATS, Labelled
from misc.report.kinds import EXPORT_FORMATS, SALIENCY, folders
from misc.run.evaluation import Command, Files, Strict, compare, main_of
from misc.run.failures import Failures, Told
from misc.run.flags import Args, Table, flag, stage
from step.sets import list_images, open_images

SPEC = DATASETS["saliency"]


def run(args: Args, failures: Failures) -> None:
    """As a stage of a run: every kind of saliency label, in the format args.export, to RESULT_DIR/export/<kind>."""
    images = open_images(args).images
    images = {stem: path for stem, path in images.items() if path not in failures}
    read = partial(read_saliency, threshold=args.export_threshold)
    for kind, folder in folders(SALIENCY, args).items():
        if kind.style != "heat":
            out_dir = args.result_dir / "export" / kind.key
            export_folder(folder, images, read, SPEC, args.export, out_dir, failures, args)


def export_folder(
    folder: Path,
    images: Files,
    read: Callable[[Path], np.ndarray],
    spec: DatasetSpec,
    fmt: str,
    out_dir: Path,
    failures: Told,
    args: Args,
    **options: str,
) -> None:
    """The labels in folder of all images (stem -> file); what cannot be used is added to failures."""
    empty = []

    def labelled() -> Iterator[Labelled]:
        for item in compare("export", folder, images, partial(read_one, read=read), args, failures):
            empty.append(not ((item.label != 0) & (item.label != spec.ignore)).any())
            yield item

    n = FORMATS[fmt](labelled(), spec, out_dir, **options)
    print(f"export: {n} labels of {folder} as {fmt} in {out_dir}{f', {sum(empty)} without an object' * any(empty)}")
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
    options = {"coco": {"shapes": args.shapes}, "voc": {"split": args.split}}.get(args.format, {})
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
    split: str = flag("train", "voc: name of the list")


main = main_of(Table(__doc__, (Labels(), Command())), export_all)

if __name__ == "__main__":
    sys.exit(main())
