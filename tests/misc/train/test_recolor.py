"""Colours changed on the device: what the reading threads would have done, to a grey level."""

import cv2
import numpy as np
import pytest
import torch

from misc.train import augment
from misc.train.recolor import color_jitter_steps, hsv_jitter_steps, recolored


def rng(seed=0):
    return np.random.default_rng(seed)


def on_device(images, steps, inside=None):
    inside = [np.ones(image.shape[:2], np.uint8) for image in images] if inside is None else inside
    img, steps, inside = (torch.from_numpy(np.stack(arrays)) for arrays in (images, steps, inside))
    return recolored(img.permute(0, 3, 1, 2), steps, inside).permute(0, 2, 3, 1).numpy()


def crops(photographs, side=200):
    """Parts of photographs, black, white and gray: (N,side,side,3)."""
    plain = [np.full((side, side, 3), value, np.uint8) for value in (0, 255, 90)]
    return [*(image[40:][:side, :side] for image in vars(photographs).values()), *plain]


@pytest.mark.parametrize(("strength", "hue"), [(0.3, 0.1), (0.3, 0.0), (0.0, 0.5), (1.0, 1.0)])
def test_color_jitter_is_that_of_numpy(photographs, strength, hue):
    """A batch in which each image has an order of its own; contrast turns around the mean of the whole image."""
    images = crops(photographs)
    for seed in range(10):
        seeds = [10 * i + seed for i in range(len(images))]
        expected = [augment.color_jitter(x, strength, hue, rng(s)) for x, s in zip(images, seeds, strict=True)]
        steps = [color_jitter_steps(x, strength, hue, rng(s)) for x, s in zip(images, seeds, strict=True)]
        found = on_device(images, steps).astype(int)
        assert np.abs(found - expected).max() <= 1 and np.abs(found - expected).mean() < 0.2
    assert np.abs(found - images).mean() > 1


def test_a_part_of_an_image_changes_as_in_the_whole(photographs):
    part = np.s_[10:110, 200:300]
    for image in vars(photographs).values():
        expected = augment.color_jitter(image, 0.9, 0.1, rng(3))[part].astype(int)
        (found,) = on_device([image[part]], [color_jitter_steps(image, 0.9, 0.1, rng(3))])
        assert np.abs(found - expected).max() <= 1


def test_hsv_jitter_is_that_of_opencv_but_for_its_8_bits(photographs):
    images = crops(photographs)
    for seed in range(5):
        steps = hsv_jitter_steps(20, rng(seed))
        found = on_device(images, [steps] * len(images)).astype(int)
        (moves,) = augment.draw_hsv_jitter(20, rng(seed)) * np.float32([2, 1 / 255, 1 / 255])
        for image, ours in zip(images, found, strict=True):
            hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV) + moves
            hsv[..., 0] %= 360
            hsv[..., 1:] = hsv[..., 1:].clip(0, 1)
            assert np.abs(ours - 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).max() <= 0.51
            rounded = np.abs(ours - augment.hsv_jitter(image, 20, rng(seed)))
            assert rounded.max() <= 8 and rounded.mean() < 1  # a unit of 8-bit hue is 8 grey levels


def test_the_draws_are_those_of_the_cpu(photographs):
    for seed in range(5):
        one, two, three, four = (rng(seed) for _ in range(4))
        augment.color_jitter(photographs.cat, 0.3, 0.1, one), color_jitter_steps(photographs.cat, 0.3, 0.1, two)
        augment.hsv_jitter(photographs.cat, 9, three), hsv_jitter_steps(9, four)
        assert one.random() == two.random() and three.random() == four.random()


def test_fill_stays_and_no_steps_change_nothing(photographs):
    image = photographs.cat[:60, :80]
    inside = np.zeros(image.shape[:2], np.uint8)
    inside[20:50, 30:70] = 1
    (found,) = on_device([image], [color_jitter_steps(image, 0.9, 0.1, rng(1))], [inside])
    np.testing.assert_array_equal(found[inside == 0], image[inside == 0])
    assert (found[inside == 1] != image[inside == 1]).mean() > 0.9
    for steps in (color_jitter_steps(image, 0.0, 0.0, rng()), hsv_jitter_steps(0, rng())):
        assert steps.shape == (0, 6)
        np.testing.assert_array_equal(on_device([image], [steps])[0], image)
