"""The CRFs of the segmentation branch, as flags want them."""

import run_voc
from pgt.crf import CRF_RECIPES


def test_published_reach_unless_pictures_are_small():
    args = run_voc.parse(["--data_dir", "x"])
    assert args.seg_crf.at_scale(args.crf_scale) == CRF_RECIPES["wsss_seg"] and args.seg_crf.num_iter == 1
    assert args.crf == args.sem_seg.crf == CRF_RECIPES["wsss_cam"]
    args = run_voc.parse(["--crf_scale", "4", "--seg_crf_recipe", "wsss_cam", "--seg_crf_num_iter", "3"])
    params = args.seg_crf.at_scale(args.crf_scale)
    assert (params.bilateral_sxy, params.gaussian_sxy, params.num_iter) == (20, 0.75, 3)
    assert params.bilateral_srgb == CRF_RECIPES["wsss_cam"].bilateral_srgb
