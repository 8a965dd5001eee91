"""A page of the maps and labels of the segmentation branch, see step/make_report.py.

Reads   the images and masks of --eval_splits; RESULT_DIR/cam, sem_seg, seg, metrics.json, args.json
Writes  RESULT_DIR/report.html; RESULT_DIR/report_files/<name>.webp
"""

from misc.files.store import read_json
from misc.report.page import Column
from step.make_report import Entry, make_report
from step.seg_set import open_eval, open_train

TITLES = {"cam": "CAM", "sem_seg": "pseudo label", "seg": "segmentation"}
SUFFIXES = {"cam": ".npz", "sem_seg": ".png", "seg": ".png"}


def run(args, failures) -> None:
    parts = list(open_eval(args).values()) or [open_train(args)]
    columns = [Column("image", "image", "photo", parts[0].images.files[0].parent)]
    columns += [
        Column(kind, title, "heat" if kind == "cam" else "classes", args.result_dir / kind)
        for kind, title in TITLES.items()
        if (args.result_dir / kind).is_dir()
    ]
    kinds = [column.key for column in columns[1:]]
    mask_dir = parts[0].mask_dir
    if mask_dir:
        columns.append(Column("mask", "mask", "classes", mask_dir))
    entries = {}
    for part in parts:
        for name, file in zip(part.images.names, part.images.files, strict=True):
            files = [args.result_dir / kind / f"{name}{SUFFIXES[kind]}" for kind in kinds]
            files += [part.mask_of(name)] if mask_dir else []
            there = tuple(path if path and path.is_file() else None for path in files)
            entries[name] = Entry(name, (file, *there), args.result_dir / "report_files" / f"{name}.webp")
    name = "toy" if args.toy else (args.data_dir or args.dataset_root).resolve().name
    make_report(args, failures, f"Pseudo labels of {name}", columns, list(entries.values()), parts[0].spec,
                fractions(read_json(args.result_dir / "metrics.json")))  # fmt: skip


def fractions(scores: dict) -> dict:
    """metrics.json of step/eval_seg.py, which is in percent -> the same from 0 to 1, as the page wants it."""

    def convert(key: str, value):
        if isinstance(value, dict):
            return {k: convert(k if key != "iou" else key, v) for k, v in value.items()}
        if isinstance(value, list):
            return [convert(key, v) for v in value]
        percent = key in ("miou", "iou", "sweep") or key.startswith("contour_f")
        return value / 100 if percent and value is not None else value

    return convert("", scores)
