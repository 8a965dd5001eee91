"""High-fidelity pseudo labels (HFPL): image-level labels -> class activation maps -> segmentation, on PASCAL VOC 2012.

    python run_voc.py --toy                              every pass on a small set made by code, in minutes
    python run_voc.py --voc12_root VOCdevkit/VOC2012 --seam_weights ilsvrc-cls_rna-a1_cls1000_ep-0001.params
    python run_voc.py --data_dir my_set --seam_network resnet50                 images and classes of your own
    python run_voc.py --train_seam_pass False --make_cam_pass False             the passes after these alone

Defaults are in misc/run/seg_args.py; `python run_voc.py --help` explains all flags.
"""

import sys
from pathlib import Path

from misc.run.passes import run_passes
from misc.run.seg_args import PASSES, parse_flags


def parse(argv: list[str] | None = None):
    return parse_flags(__doc__, "voc12", Path("VOCdevkit/VOC2012"), argv=argv)


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
