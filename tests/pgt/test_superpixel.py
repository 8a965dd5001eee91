"""SLIC label for label against scikit-image and the published maps; means over superpixels against plain loops."""

import numpy as np
import pytest

from benchmarks.superpixel import skimage_slic
from pgt.superpixel import LAB_MODES, slic, superpixel_mean, threshold_by_mean

PICTURES = ["coffee_203x301", "rocket_213x321", "chelsea_281x375", "astronaut_255x255"]


@pytest.mark.parametrize("name", PICTURES)
def test_labels_equal_published(golden, name):
    published, image = golden("pgt_run_slic"), golden.image(name)
    np.testing.assert_array_equal(slic(image, lab="published"), published[f"{name}.slic_labels"])
    np.testing.assert_array_equal(slic(image, lab="single") + 1, published[f"{name}.slic_no_second_lab"])
    np.testing.assert_array_equal(slic(image, lab="rgb") + 1, published[f"{name}.slic_rgb_compact20"])


@pytest.mark.parametrize("name", ["coffee_203x301", "rocket_213x321", "astronaut_255x255"])
def test_single_lab_labels_and_means_equal_published(golden, name):
    published, cam = golden("pgt_run_slic_single_lab"), golden("pgt_run_slic")
    labels = slic(golden.image(name))
    np.testing.assert_array_equal(labels, published[f"{name}.slic_labels"])
    means = superpixel_mean(cam[f"{name}.probs_resized_thresholded"] / 255, labels)
    np.testing.assert_allclose(means, published[f"{name}.sp_prob"][labels], atol=1e-6)


@pytest.mark.parametrize("name", PICTURES)
def test_threshold_equals_published(golden, name):
    published = golden("pgt_run_slic")
    np.testing.assert_array_equal(
        threshold_by_mean(published[f"{name}.cam_resized"]), published[f"{name}.probs_resized_thresholded"]
    )


def assert_same_labels(ours, theirs):
    np.testing.assert_array_equal(ours, np.unique(theirs, return_inverse=True)[1].reshape(theirs.shape))


NOISE = [  # height, width, segments: strips, fewer pixels than segments, one segment, one pixel
    (40, 50, 200),
    (1, 100, 10),
    (100, 1, 7),
    (3, 200, 50),
    (5, 5, 200),
    (30, 31, 800),
    (64, 64, 1),
    (300, 20, 200),
    (1, 1, 1),
]


@pytest.mark.parametrize("lab", LAB_MODES)
@pytest.mark.parametrize("height, width, segments", NOISE)
def test_noise_and_odd_shapes_equal_skimage(height, width, segments, lab):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert_same_labels(slic(image, segments, lab=lab), skimage_slic(image, segments, lab=lab))


@pytest.mark.parametrize("lab", LAB_MODES)
@pytest.mark.parametrize("compactness", [0.5, 20, 500])
def test_photographs_equal_skimage(photographs, lab, compactness):
    image = photographs.coffee[::2, ::3]
    assert_same_labels(slic(image, 150, compactness, lab), skimage_slic(image, 150, compactness, lab))


@pytest.mark.parametrize("lab", LAB_MODES)
def test_equals_skimage_where_distances_tie(lab):
    blocks = np.random.default_rng(0).integers(0, 3, (8, 8, 3)).astype(np.uint8) * 100
    for image in (np.full((60, 70, 3), 90, np.uint8), np.repeat(np.repeat(blocks, 10, 0), 10, 1)):
        assert_same_labels(slic(image, 40, lab=lab), skimage_slic(image, 40, lab=lab))


def test_labels_are_contiguous_and_deterministic(photographs):
    labels = slic(photographs.cat, 100)
    assert labels.dtype == np.int32 and labels.shape == photographs.cat.shape[:2]
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 60 < labels.max() < 140
    assert labels.tobytes() == slic(photographs.cat, 100).tobytes()


def test_views_are_accepted(photographs):
    view = photographs.cat[:200:2, 300:100:-2]
    np.testing.assert_array_equal(slic(view, 50), slic(view.copy(), 50))


def test_superpixel_mean_equals_the_loop(photographs):
    saliency = photographs.cat[..., 0] / 255
    labels = slic(photographs.cat, 60) * 3 + 1  # labels with gaps
    expected = np.zeros_like(saliency)
    for label in np.unique(labels):
        expected[labels == label] = saliency[labels == label].mean()
    np.testing.assert_allclose(superpixel_mean(saliency, labels), expected, rtol=1e-12)
    np.testing.assert_allclose(superpixel_mean(photographs.cat[..., 0], labels), expected * 255, rtol=1e-12)


def test_threshold_keeps_the_band():
    grey = np.array([[0, 60, 99, 100, 119, 121, 201]], np.uint8)  # mean 100
    np.testing.assert_array_equal(threshold_by_mean(grey), [[0, 0, 99, 100, 119, 255, 255]])
    np.testing.assert_array_equal(threshold_by_mean(grey, high=1.5, low=0.5), [[0, 60, 99, 100, 119, 121, 255]])
    np.testing.assert_array_equal(threshold_by_mean(np.full((2, 2), 7, np.uint8)), np.full((2, 2), 7))


def test_bad_input():
    image = np.zeros((4, 5, 3), np.uint8)
    for bad in (image.astype(float), image[..., 0], image[:0], image[..., :2]):
        with pytest.raises(ValueError, match="image is"):
            slic(bad)
    for options in ({"n_segments": 0}, {"compactness": 0}, {"compactness": float("nan")}):
        with pytest.raises(ValueError, match="n_segments"):
            slic(image, **options)
    with pytest.raises(ValueError, match="give one of"):
        slic(image, lab="hsv")
    with pytest.raises(ValueError, match="differ"):
        superpixel_mean(np.zeros((2, 2)), np.zeros((2, 3), int))
    for labels in (np.full((2, 2), -1), np.zeros((2, 2))):
        with pytest.raises(ValueError, match="integer labels"):
            superpixel_mean(np.zeros((2, 2)), labels)
    with pytest.raises(ValueError, match="uint8"):
        threshold_by_mean(np.zeros((2, 2)))
