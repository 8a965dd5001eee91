"""Superpixel-wise pseudo labels from class activation maps (generatePGT).

    python run_slic.py                                              for what run_sample.py has just made
    python run_slic.py --img_root DUTS-TR --prob_root result/cam    for any folder of images and their maps
    python run_slic.py --slic_recipe published                      the published superpixels and factors

Every line of the classes below is a flag and its default: edit it, or give the flag.
"""

import sys
from pathlib import Path

from misc.run.flags import Args, Device, Pass, Results, Run, Shards, Table, Words, flag, pass_flags, stage
from misc.run.passes import run_passes
from misc.run.records import maps_of_run_sample
from pgt.crf import CRF_RECIPES, CRFParams

ROOT = Path(__file__).resolve().parent


PASSES = {
    "make_slic_pass": Pass(True, "step.make_slic", "cam_slic"),
    "eval_pass": Pass(True, "step.eval", parts=True),
    "doubtful_pass": Pass(True, "step.doubtful", parts=True),
    "overview_pass": Pass(True, "step.overview"),
    "report_pass": Pass(True, "step.report"),
    "export": Pass(None, "step.export"),
}


@stage("images", of=("make_slic",))
class Images:
    img_root: Path | None = flag(None, "the images; none: those of the last run_sample.py", often=True, reads=True)
    manifest: Path | None = flag(None, "a text file or .csv of the images' paths, relative to itself", reads=True)
    limit: int | None = flag(None, "take only the first LIMIT images by name", often=True, at_least=1)
    max_side: int = flag(1024, "a longer side is scaled down to this; labels come out at full size", at_least=1)


@stage("make_slic: the maps and the labels", of=("make_slic",))
class Folders:
    prob_root: Path | None = flag(
        None, "their maps, <stem>.png; none: those of the last run_sample.py", often=True, reads=True
    )
    output_root: Path | None = flag(None, "where the labels go; none: RESULT_DIR/cam_slic", often=True, writes=True)


@stage("make_slic: class activation maps -> superpixel-wise pseudo labels", of=("make_slic",))
class MakeSlic:
    slic_recipe: str = flag(
        "default",
        "sets the flags below; published: run_slic's; mfnet_stage2: MFNet's second stage",
        choices=("default", "published", "mfnet_stage2"),
    )


@stage("the recipe of make_slic", prefix="slic_", of=("make_slic",))
class Slic:
    border: float = flag(
        0.3, "share of what is unlike the image's border in the map (pgt/border.py); 0: none", at_least=0, at_most=1
    )
    segments: int = flag(200, "superpixels per image, roughly", at_least=1)
    compactness: float = flag(20, "weight of position against colour in SLIC", above=0)
    lab: str = flag("rgb", "colour space of SLIC (pgt/superpixel.py)", choices=("rgb", "single", "published"))
    num_iter: int = flag(5, "rounds of SLIC", at_least=1)
    high: float = flag(1.7, "surely object: above this times the mean of the map", above=0)
    low: float = flag(1.0, "surely background: below this times the mean of the map", above=0)
    crf: CRFParams | None = flag(CRF_RECIPES["wsod_superpixel"], "end with a dense CRF")


STAGES = (
    pass_flags(PASSES), Images(), Folders(), MakeSlic(), Slic(), Results(), Run(result_dir=ROOT / "result"), Device(),
    Shards(),
)  # fmt: skip

RECIPES = {
    "slic_recipe": {
        "published": {
            "slic_border": 0.0,
            "slic_lab": "published",
            "slic_num_iter": 10,
            "slic_high": 1.2,
            "slic_low": 0.7,
        },
        "mfnet_stage2": {
            "slic_border": 0.0,
            "slic_lab": "published",
            "slic_num_iter": 10,
            "slic_high": 1.5,
            "slic_low": 0.8,
        },
    }
}

TABLE = Table(__doc__, STAGES, RECIPES)


def parse(argv: Words | None = None) -> Args:
    args, given = TABLE.parse(argv)
    others, found = args.prob_root is not None, maps_of_run_sample(args)
    images, maps, limit, manifest = found  # as the record has it
    args = TABLE.resolve({**given, "img_root": images, "prob_root": maps, "limit": limit, "manifest": manifest})
    args.sal_dataset_dir, args.cam_out_dir, args.cam_slic_out_dir = images, maps, args.output_root
    args.cam_pamr_out_dir, args.maps_of_others, args.images_flag = None, others, "--img_root"
    args.args_file = "args_slic.json"
    return args


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
