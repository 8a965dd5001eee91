"""Saliency beside CAMs: what it lifts, what it leaves in order, and where both agree."""

import numpy as np
import pytest

from pgt.cue import agreement, objects_with_saliency, with_saliency

RNG = np.random.default_rng(0)
CAM, SALIENCY = RNG.random((3, 8, 9), np.float32), RNG.random((8, 9), np.float32)


def test_no_share_is_the_cams_and_all_of_it_the_saliency():
    np.testing.assert_array_equal(with_saliency(CAM, SALIENCY, 0.0), CAM)
    np.testing.assert_allclose(with_saliency(CAM, SALIENCY, 1.0).max(0), SALIENCY, rtol=1e-5)
    np.testing.assert_allclose(with_saliency(CAM, SALIENCY, 0.4).max(0), 0.6 * CAM.max(0) + 0.4 * SALIENCY, rtol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_classes_stay_in_the_order_of_their_cams_and_within_bounds(share):
    out = with_saliency(CAM, SALIENCY, share)
    assert (out.argsort(0) == CAM.argsort(0)).all() and out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1


def test_what_is_not_salient_but_surely_of_a_class_stays_above_the_background():
    cam = np.zeros((1, 2, 2), np.float32)
    cam[0, 0, 0] = 1
    out = with_saliency(cam, np.zeros((2, 2), np.float32), 0.4)
    assert out[0, 0, 0] == pytest.approx(0.6) and (1 - out[0, 0, 0]) ** 5 < out[0, 0, 0]


def test_an_image_without_a_class():
    assert with_saliency(CAM[:0], SALIENCY, 0.4).shape == with_saliency(CAM[:0], SALIENCY, 1.0).shape == (0, 8, 9)


def test_sizes_that_differ():
    with pytest.raises(ValueError, match="give \\(P,H,W\\) and \\(H,W\\)"):
        with_saliency(CAM, SALIENCY[:4], 0.4)


def test_agreement_is_the_soft_intersection_over_union_at_each_threshold():
    thresholds = [0.0, 0.25, 0.5, 0.9, 1.0]
    want = []
    for t in thresholds:
        above = (CAM.max(0) > t).astype(float)
        want.append(np.minimum(above, SALIENCY).sum() / np.maximum(above, SALIENCY).sum())
    np.testing.assert_allclose(agreement(CAM, SALIENCY, thresholds), want, rtol=1e-6)


def test_maps_that_are_alike_agree_best_at_the_threshold_between_object_and_ground():
    salient = np.zeros((20, 20), np.float32)
    salient[5:12, 5:12] = 1
    cam = np.where(salient > 0, 0.7, 0.2).astype(np.float32)[None]
    thresholds = np.arange(60) / 100
    best = thresholds[agreement(cam, salient, thresholds).argmax()]
    assert 0.2 <= best < 0.7


def test_nothing_found_and_nothing_salient_agree():
    nothing = np.zeros((4, 4), np.float32)
    assert (agreement(nothing[None], nothing, [0.1, 0.5]) == 1).all()
    assert (agreement(nothing[None][:0], nothing + 0.5, [0.1, 0.5]) == 0).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_object_is_as_probable_as_both_say_and_classes_divide_it_as_before(share):
    prob = RNG.random((4, 8, 9), np.float32)
    prob /= prob.sum(0)
    out = objects_with_saliency(prob, SALIENCY, share)
    np.testing.assert_allclose(out.sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(1 - out[0], share * SALIENCY + (1 - share) * (1 - prob[0]), atol=1e-6)
    np.testing.assert_allclose(out[1:] / out[1:].sum(0), prob[1:] / prob[1:].sum(0), rtol=1e-4)
    with pytest.raises(ValueError, match="give \\(C,H,W\\) and \\(H,W\\)"):
        objects_with_saliency(prob, SALIENCY[1:], share)
