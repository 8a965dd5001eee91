"""The CRFs of the segmentation branch, as flags want them."""

import run_voc
from pgt.crf import CRF_RECIPES
from step.make_crf import crf_params


def test_published_reach_unless_pictures_are_small():
    args = run_voc.parse(["--data_dir", "x"])
    params = crf_params(args.seg_crf_recipe, args.seg_crf_num_iter, args)
    assert params == CRF_RECIPES["wsss_seg"] and params.num_iter == 1
    args = run_voc.parse(["--data_dir", "x", "--crf_scale", "4", "--seg_crf_recipe", "wsss_cam"])
    params = crf_params(args.seg_crf_recipe, 3, args)
    assert (params.bilateral_sxy, params.gaussian_sxy, params.num_iter) == (20, 0.75, 3)
    assert params.bilateral_srgb == CRF_RECIPES["wsss_cam"].bilateral_srgb
