"""run_voc.py's passes on COCO 2014.

    python -m data.prepare coco14 --root coco14
    python run_coco.py --coco14_root coco14 --seam_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params

The defaults are those of run_voc.py, but for these.
"""

import sys
from pathlib import Path

from misc.run.flags import Args, Table, Words, flag, pass_flags, stage
from misc.run.passes import run_passes
from run_voc import PASSES, RECIPES, STAGES, parse_for

DIFFERENT = {"fsl_weight": 0.2, "seg_num_steps": 200001}


@stage("data (data/segmentation.py has the layouts)", of="*")
class Coco14:
    coco14_root: Path = flag(
        Path("coco14"), "the data set, as `python -m data.prepare coco14` leaves it", often=True, reads=True
    )


TABLE = Table(__doc__, (pass_flags(PASSES), Coco14(), *STAGES), RECIPES, DIFFERENT)


def parse(argv: Words | None = None) -> Args:
    return parse_for("coco14", TABLE, argv)


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
