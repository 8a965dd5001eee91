"""run_voc.py's passes on COCO 2014.

    python -m data.prepare coco14 --root coco14
    python run_coco.py --coco14_root coco14 --seam_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params

Defaults are in misc/run/seg_args.py, those of COCO alone below; `python run_coco.py --help` explains all flags.
"""

import sys
from pathlib import Path

from misc.run.passes import run_passes
from misc.run.seg_args import PASSES, parse_flags

OWN = {"fsl_weight": 0.2, "seg_num_steps": 200001}


def parse(argv: list[str] | None = None):
    return parse_flags(__doc__, "coco14", Path("coco14"), OWN, argv)


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
