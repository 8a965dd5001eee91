"""Checks a data set, or downloads it, and derives what the passes need. What is there already is kept.

    python -m data.prepare voc12 --root VOCdevkit/VOC2012      2 GB where there is nothing yet
    python -m data.prepare coco14 --root COCO                  20 GB

Reads   voc12:  ROOT/JPEGImages, Annotations, ImageSets/Segmentation, SegmentationClass, SegmentationClassAug
        coco14: ROOT/annotations/instances_train2014.json, instances_val2014.json, train2014/, val2014/
Writes  both:   ROOT/labels_<split>.csv, the classes of every image (file,label;label)
                ROOT/class_names.txt, the classes in the order of their labels
        voc12:  ROOT/ImageSets/Segmentation/train_aug.txt: SegmentationClassAug less val (Hariharan et al., ICCV 2011)
        coco14: ROOT/ImageSets/Segmentation/<split>.txt; ROOT/SegmentationClass/<name>.png, palette pictures: categories
                by ascending number are 1, 2, ..., a later annotation covers an earlier one, crowds are 255
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from data import coco14, voc12
from data.archives import fetch, is_under_way
from data.labelled import describe, named_in, open_labelled
from data.layouts import Found, Request, found_in, read_voc12
from misc.errors import InputError
from misc.files.held import Held
from misc.files.labels import write_mask
from misc.files.store import fingerprint_of, require_writable, write_csv, write_text
from misc.run.each import Item, Write, each
from misc.run.evaluation import exit_status, table
from misc.run.failures import Failures
from misc.run.flags import Args, Table, Talks, flag, stage
from misc.run.progress import talk_of

FLAG = "--root"
COLUMNS = ("images", "published", "labels", "masks")


@dataclass(frozen=True)
class Part:
    """What is known of one part: its images and their classes, where their masks are, and the classes in the order of
    their labels."""

    found: Found
    mask_dir: str
    class_names: tuple[str, ...] = voc12.SPEC.class_names


def prepare(args: Args, failures: Failures) -> None:
    """args: see Prepare. Raises InputError for a tree that cannot be used, or cannot be had."""
    facts = voc12 if args.dataset == "voc12" else coco14
    root = (voc12.find_root(args.root) if facts is voc12 else None) or args.root
    if root.exists() and not root.is_dir():
        raise InputError(f"{FLAG} {root}: is a file; give the folder of the data set, or one to make")
    if args.download or is_under_way(root) or not root.exists() or not any(root.iterdir()):
        fetch(facts.ARCHIVES, root, talk_of(args))
    require_writable(root)
    print(f"{args.dataset} in {root}; writes there: {', '.join(facts.DERIVED)}", flush=True)
    parts = derive_voc12(root) if facts is voc12 else derive_coco14(root, args, failures)
    write_class_names(root, names := next(iter(parts.values())).class_names)
    for split, part in parts.items():
        write_labels(root / f"labels_{split}.csv", part.found)
    if not set(names).issubset(facts.SPEC.class_names):
        print(f"its {len(names)} classes are its own: run_voc.py --data_dir {root}")
    print(table({split: summary(root, split, part, facts.SIZES) for split, part in parts.items()}, COLUMNS))
    for split, part in parts.items():
        data = open_labelled(root, "csv", part.found.class_names, split, flag=FLAG)
        print(f"\n{split}\n{describe(data)}")


def summary(root: Path, split: str, part: Part, sizes: Mapping[str, int]) -> dict[str, int]:
    classes = part.found.classes
    num_masks = sum((root / part.mask_dir / f"{Path(path).stem}.png").is_file() for path in classes)
    num_labels = sum(map(len, classes.values()))
    return {"images": len(classes), "published": sizes[split], "labels": num_labels, "masks": num_masks}


def write_class_names(root: Path, names: tuple[str, ...]) -> None:
    """ROOT/class_names.txt, by which every command knows the order of the labels. Raises InputError where it is there
    and says otherwise."""
    if (held := named_in(root)) not in (None, names):
        raise InputError(f"{FLAG} {root}: class_names.txt there says {held[0]}, ..., the annotations {names[0]}, ...")
    write_text(root / "class_names.txt", "".join(f"{name}\n" for name in names))


def write_labels(path: Path, found: Found) -> None:
    """The layout `csv` of data/layouts.py: files relative to path, classes in the order of their labels."""
    order = {name: i for i, name in enumerate(found.class_names)}
    rows = [
        (Path(os.path.relpath(file, path.parent)).as_posix(), ";".join(sorted(found.classes[file], key=order.get)))
        for file in sorted(found.classes)
    ]
    write_csv(path, ("file", "label"), rows)


def derive_voc12(root: Path) -> dict[str, Part]:
    if voc12.find_root(root) is None:
        raise InputError(f"{FLAG} {root}: no {voc12.IMAGES} in it; give the devkit's VOC2012, or an empty folder")
    lists = {split: root / file for split, file in voc12.SPEC.lists.items() if split != "trainval"}
    if (root / voc12.MASKS_AUG).is_dir():
        write_text(lists["train_aug"], "".join(f"{name}\n" for name in voc12.train_aug(root, FLAG)))
    else:
        print(f"no {voc12.MASKS_AUG} in {root}, so no train_aug; --download gets it")
    read = partial(Request, root, FLAG, voc12.SPEC.class_names)
    masks = {split: voc12.MASKS_AUG if split == "train_aug" else str(voc12.SPEC.mask_dir) for split in lists}
    parts = {split: Part(read_voc12(read(split)), masks[split]) for split, file in lists.items() if file.is_file()}
    for part in parts.values():
        _require_voc(part.found, root)
    if not parts:
        raise InputError(f"{FLAG} {root}: none of {', '.join(map(str, lists.values()))}; get the devkit again")
    return parts


def _require_voc(found: Found, root: Path) -> None:
    """Raises InputError for a class that is none of VOC's, as run_voc.py --voc12_root does."""
    for file, names in sorted(found.classes.items()):
        if odd := set(names).difference(voc12.SPEC.class_names):
            raise InputError(
                f"{FLAG} {root}: the annotation of {Path(file).name} names {min(odd)!r}, none of VOC's classes; mend "
                f"it; a set of classes of its own needs no data.prepare: run_voc.py --data_dir {root}"
            )


def derive_coco14(root: Path, args: Args, failures: Failures) -> dict[str, Part]:
    parts = {}
    for split in coco14.SIZES:
        files = coco14.find_instances(root, split)
        if len(files) > 1:
            raise InputError(f"{FLAG} {root}: {files[0].name} and {files[1].name} are both {split}; take one away")
        if files:
            instances = coco14.read_instances(files[0], FLAG)
            draw_masks(instances, root, args, failures)
            write_text(root / coco14.SPEC.lists[split], "".join(f"{name}\n" for name in sorted(names_of(instances))))
            names = tuple(coco14.categories_of(instances).values())
            parts[split] = Part(found_in(instances), str(coco14.SPEC.mask_dir), names)
    if not parts:
        raise InputError(
            f"{FLAG} {root}: no annotations/instances_train2014.json in it; give COCO's or an empty folder"
        )
    return parts


def names_of(instances: coco14.Instances) -> list[str]:
    """Of the images, in the order of the file: stems, or where two have one their paths without suffix."""
    paths = [PurePosixPath(image["file_name"]) for image in instances.images.values()]
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in paths]


def draw_masks(instances: coco14.Instances, root: Path, args: Args, failures: Failures) -> None:
    """SegmentationClass/<name>.png of every image, by threads; those that are current stay, and those that another
    program made."""
    labels, mask_dir = coco14.label_of_category(instances), root / str(coco14.SPEC.mask_dir)

    def settings(item: Item) -> list[dict]:
        shape, annotations = item.facts
        return [{"shape": shape, "labels": list(labels.items()), "annotations": annotations}]

    def draw(item: Item, _: Sequence[Held]) -> list[Write]:
        (path,), (shape, annotations) = item.outs, item.facts
        if path.exists() and fingerprint_of(path) is None:
            raise OSError(f"{path} was made by another program; move it away")
        return [partial(write_mask, label=coco14.draw_label(annotations, shape, labels, coco14.SPEC.ignore))]

    items = []
    for name, (number, image) in zip(names_of(instances), instances.images.items(), strict=True):
        file, facts = Path(image["file_name"]), ((image["height"], image["width"]), instances.annotations[number])
        items.append(Item(file, (mask_dir / f"{name}.png",), (), facts=facts))
    each(f"masks of {instances.path.stem}", items, settings, draw, args, failures, what="masks")


@stage("a data set")
class Prepare(Talks):
    dataset: str | None = flag(None, "which one", often=True, required=True, choices=("voc12", "coco14"))
    root: Path | None = flag(None, "its folder; absent or empty: it is downloaded to there", often=True, required=True)
    download: bool = flag(False, "get what is missing of a folder that holds something", often=True)
    overwrite: bool = flag(False, "draw all masks anew")
    num_workers: int = flag(0, "threads; 0: one per core", at_least=0)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 where annotations of some images are damaged, which prepare_failed.csv lists; 2: not usable."""
    failed = []

    def run() -> None:
        args, _ = Table(__doc__, (Prepare(),), positional="dataset").parse(argv)
        failures = Failures(args.root / "prepare_failed.csv")
        prepare(args, failures)
        failed.append(failures.close())

    return exit_status(run) or failed[0]


if __name__ == "__main__":
    sys.exit(main())
