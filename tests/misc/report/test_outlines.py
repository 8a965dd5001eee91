"""Outlines against the label maps that they are of."""

import cv2
import numpy as np
import pytest

from misc.files.images import read_gray, read_image
from misc.report.kinds import Simplify
from misc.report.outlines import agreement, outlines, painted, painted_outlines, pixels_within, polygons
from run_slic import Slic
from step.make_slic import make_slic


def noise(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 40, 2)
    return (
        rng.integers(0, rng.integers(1, 5), shape) if seed % 2 else np.kron(rng.integers(0, 3, (3, 4)), np.eye(7) > 0)
    )


@pytest.mark.parametrize("seed", range(30))
def test_outlines_painted_in_order_are_the_label_map(seed):
    label = noise(seed).astype(np.uint8)
    np.testing.assert_array_equal(painted(painted_outlines(label), label.shape), label)


@pytest.mark.parametrize("seed", range(30))
def test_pixels_within_are_those_that_are_painted(seed):
    for _, ring in painted_outlines(noise(seed).astype(np.uint8)):
        assert pixels_within(ring) == painted([(1, ring)], (60, 60)).sum()


@pytest.mark.parametrize("seed", range(10))
def test_simplified_outlines_agree_with_the_label_whatever_it_is(seed):
    label = noise(seed).astype(np.uint8)
    for least in (0.5, 0.9, 1.0):
        found = painted(outlines(label, Simplify(0.2, 0.2, least)), label.shape)
        assert agreement(found, label) >= least


def test_small_parts_and_holes_go_and_a_straight_edge_has_few_points():
    label = np.zeros((200, 300), np.uint8)
    label[20:180, 30:250], label[60:62, 60:64], label[2:5, 2:5] = 1, 0, 1
    label[20:180:2, 250] = 1  # a ragged edge
    (found,) = outlines(label, Simplify())
    assert found[0] == 1 and len(found[1]) <= 6
    assert len(outlines(label)) == 3
    label[60:120, 60:120] = 0
    assert [value for value, _ in outlines(label, Simplify())] == [1, 0]


def test_agreement():
    a, b = np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 0]])
    assert agreement(a, b) == 1 / 3 and agreement(a, a) == 1 and agreement(a * 0, a * 0) == 1
    assert agreement(a * 0, a) == 0


def test_thin_parts_have_polygons_with_an_area():
    for mask in (np.eye(5) > 0, np.ones((1, 1), bool), np.ones((1, 5), bool)):
        for how in (None, Simplify()):
            for outline in polygons(mask, how):
                assert len(outline) >= 3 and cv2.contourArea(np.float32(outline)) > 0


def test_labels_of_photographs_have_few_shapes_of_few_points(shared):
    """Superpixel-wise labels, whose edges are as rough as they come, of maps as blurred as those of a network."""
    root, shapes, points, agreements = shared("data", "ecssd"), [], [], []
    for path in sorted((root / "images").iterdir())[:80:8]:
        cam = cv2.GaussianBlur(read_gray(root / "masks" / f"{path.stem}.png"), (0, 0), 25)
        label = (make_slic(read_image(path), cam, Slic()) >= 128).astype(np.uint8)
        found = outlines(label, Simplify())
        shapes.append(len(found))
        points += [len(ring) for _, ring in found]
        agreements.append(agreement(painted(found, label.shape), label))
    assert np.median(shapes) <= 8 and np.median(points) <= 60
    assert np.mean(agreements) >= 0.97 and min(agreements) >= 0.9
