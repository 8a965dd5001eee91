"""Superpixel-wise labels against those of the published run_slic."""

from dataclasses import replace

import numpy as np
import pytest

import run_slic
from misc.files.images import at_size
from step.make_slic import make_slic

NAMES = ("default", "published", "mfnet_stage2")
SLIC_RECIPES = {name: run_slic.TABLE.resolve({"slic_recipe": name}).slic for name in NAMES}

IMAGES = ["coffee_203x301", "rocket_213x321", "chelsea_281x375", "astronaut_255x255"]


@pytest.mark.parametrize(
    ("file", "lab", "name"),
    [*(("pgt_run_slic", "published", name) for name in IMAGES),
     *(("pgt_run_slic_single_lab", "single", name) for name in IMAGES[::3])],
)  # fmt: skip
def test_published_labels(file, lab, name, golden):
    expected, inputs, image = golden(file), golden("pgt_run_slic"), golden.image(name)
    cam = at_size(inputs[f"{name}.cam_in"], image.shape[:2])
    assert np.array_equal(cam, inputs[f"{name}.cam_resized"])
    got = make_slic(image, cam, replace(SLIC_RECIPES["published"], lab=lab)).astype(int)
    want = expected[f"{name}.out_png"].astype(int)
    assert np.abs(got - want).mean() <= 0.1
    assert ((got >= 128) == (want >= 128)).mean() >= 0.9999


@pytest.fixture
def pair(photographs):
    image = np.ascontiguousarray(photographs.cat[:160, :220])
    y, x = np.mgrid[:160, :220]
    return image, (255 * np.exp(-((y - 80) ** 2 + (x - 110) ** 2) / 4000)).round().astype(np.uint8)


def test_without_a_crf_a_superpixel_has_one_value(pair):
    label = make_slic(*pair, replace(SLIC_RECIPES["default"], crf=None))
    assert 2 < len(np.unique(label)) <= 250 and label[80, 110] == 255 and label[0, 0] == 0


@pytest.mark.parametrize("recipe", SLIC_RECIPES)
def test_flat_maps_and_tiny_images(recipe, pair):
    image, cam = pair
    for value in (0, 255):
        assert np.isfinite(make_slic(image, np.full_like(cam, value), SLIC_RECIPES[recipe])).all()
    for shape in ((1, 1), (1, 40), (40, 1)):
        assert (
            make_slic(image[: shape[0], : shape[1]], cam[: shape[0], : shape[1]], SLIC_RECIPES[recipe]).shape == shape
        )


def test_maps_of_another_shape_are_refused():
    assert at_size(np.zeros((25, 38), np.uint8), (100, 151)).shape == (100, 151)
    assert at_size(np.zeros((1, 25), np.uint8), (1, 100)).shape == (1, 100)
    for shape in ((38, 25), (10, 10)):
        with pytest.raises(ValueError, match=f"is {shape[1]} x {shape[0]}, the image 151 x 100"):
            at_size(np.zeros(shape, np.uint8), (100, 151))
