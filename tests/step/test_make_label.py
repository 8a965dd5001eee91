"""Pixel-wise labels: the published CRF, and what binarising before it does."""

from dataclasses import replace

import numpy as np
import pytest

import run_sample
from step.make_label import make_label

LABEL_RECIPES = {name: run_sample.TABLE.resolve({"label_recipe": name}).label for name in ("default", "published")}
PUBLISHED = LABEL_RECIPES["published"]


@pytest.mark.parametrize("name", ["coffee_203x301", "rocket_213x321"])
def test_published_crf(name, golden):
    expected = golden("pgt_crf")
    image, cam = golden.image(name), expected[f"{name}.sal_in"]
    got = make_label(image, cam, replace(PUBLISHED, pamr_num_iter=0, crf_binary=None)).astype(int)
    want = expected[f"{name}.out_none"].astype(int)
    assert (np.abs(got - want) <= 2).mean() >= 0.995 and ((got >= 128) == (want >= 128)).mean() >= 0.999
    binary = make_label(image, cam, replace(PUBLISHED, pamr_num_iter=0))
    np.testing.assert_array_equal(binary, np.where(cam >= 0.4 * 255, 255, 0))
    np.testing.assert_array_equal(binary >= 128, expected[f"{name}.out_b0.4"] >= 128)


@pytest.fixture
def pair(photographs):
    """A red disc on green, and a map that knows only roughly where it is."""
    y, x = np.mgrid[:120, :160]
    disc = (y - 60) ** 2 + (x - 80) ** 2 < 35**2
    image = np.where(disc[..., None], (200, 30, 30), (30, 160, 40)).astype(np.uint8)
    cam = (255 * np.exp(-((y - 55) ** 2 + (x - 90) ** 2) / 1500)).round().astype(np.uint8)
    return image, cam, disc


@pytest.mark.parametrize("recipe", LABEL_RECIPES)
def test_a_label_follows_the_edges_of_the_image(recipe, pair):
    image, cam, disc = pair
    label = make_label(image, cam, LABEL_RECIPES[recipe]) >= 128
    iou = {name: (m & disc).sum() / (m | disc).sum() for name, m in {"cam": cam >= 128, "label": label}.items()}
    assert iou["label"] > 0.9 > iou["cam"] + 0.2


@pytest.mark.parametrize("recipe", LABEL_RECIPES)
def test_flat_maps_and_tiny_images(recipe, pair):
    image, cam, _ = pair
    for value in (0, 128, 255):
        assert make_label(image, np.full_like(cam, value), LABEL_RECIPES[recipe]).shape == cam.shape
    for h, w in ((1, 1), (1, 40), (40, 1)):
        assert make_label(image[:h, :w], cam[:h, :w], LABEL_RECIPES[recipe]).shape == (h, w)
