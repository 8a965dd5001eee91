"""Which kinds of maps and labels a run has, a row per kind: eval, overview, report and export know no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pgt.settings import setting

if TYPE_CHECKING:
    from misc.run.flags import Args


@dataclass(frozen=True)
class Simplify:
    """How polygons are made for a person to correct; see misc.report.outlines.simplified."""

    tolerance: float = setting(0.004, "edges stay within this share of the image's long side", at_least=0)
    smallest: float = setting(0.004, "parts and holes below this share of the image go", at_least=0, at_most=1)
    agreement: float = setting(0.966, "both go down until the IoU with the label is this", at_least=0, at_most=1)


@dataclass(frozen=True)
class Kind:
    """key: its name in metrics.json, and its folder below RESULT_DIR; folder_flag: the flag that may name another.
    style: see misc.report.page.Column; heat: maps, which are no labels; suffix: of its files; of_maps: whether it is
    made of the CAMs."""

    key: str
    title: str
    style: str
    suffix: str = ".png"
    folder_flag: str | None = None
    of_maps: bool = True

    def folder(self, args: Args) -> Path:
        return (self.folder_flag and getattr(args, self.folder_flag)) or args.result_dir / self.key


EXPORT_FORMATS = ("coco", "voc", "labelme", "masks", "cutout", "overlay")  # for flags; export.py writes them
SALIENCY = (
    Kind("cam", "CAM", "heat", folder_flag="cam_out_dir"),
    Kind("cam_pamr", "pixel-wise label", "gray", folder_flag="cam_pamr_out_dir"),
    Kind("cam_slic", "superpixel-wise label", "gray", folder_flag="cam_slic_out_dir"),
    Kind("sal", "network's label", "gray", of_maps=False),
)
SEGMENTATION = (
    Kind("cam", "CAM", "heat", ".npz"),
    Kind("sem_seg", "pseudo label", "classes"),
    Kind("seg", "segmentation", "classes"),
)
TRAININGS = {  # train_<key>.csv -> of what, in their order
    "cam": "the CAM network",
    "seam": "the CAM network",
    "aff": "AffinityNet",
    "sal": "the saliency network",
    "seg": "the segmentation network",
}
LEARNED_FROM = SALIENCY[1:3]  # by train_sal
CAM, (SEG_CAM, SEM_SEG, SEG) = SALIENCY[0], SEGMENTATION


def folders(kinds: Sequence[Kind], args: Args) -> dict[Kind, Path]:
    """kind -> its folder, of those that are there; not maps that someone else made (--prob_root of run_slic.py)."""
    others = {CAM} if args.maps_of_others else set()
    found = {kind: kind.folder(args) for kind in kinds if kind not in others}
    return {kind: folder for kind, folder in found.items() if folder.is_dir()}


def is_outdated(kind: Kind, stems: Iterable[str], args: Args) -> bool:
    """Whether there is no saliency label of this kind for these images, or a map was made anew after its label."""
    there, old = count_labels(kind, stems, args)
    return not there or bool(old)


def count_labels(kind: Kind, stems: Iterable[str], args: Args) -> tuple[int, int]:
    """-> how many of these images have a saliency label of this kind, and of how many a map was made after it."""
    pairs = [(CAM.folder(args) / f"{stem}.png", kind.folder(args) / f"{stem}.png") for stem in stems]
    pairs = [(cam, label) for cam, label in pairs if label.is_file()]
    made = pairs if kind.of_maps else ()
    return len(pairs), sum(cam.is_file() and cam.stat().st_mtime_ns > label.stat().st_mtime_ns for cam, label in made)
