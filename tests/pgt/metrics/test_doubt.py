"""Doubt: what it is made of, by hand, and that it ranks labels of real maps as their masks do."""

import numpy as np
import pytest

from pgt.metrics.doubt import class_distance, doubt_of, doubts_of_classes, doubts_of_saliency, soft_distance


def square(x0, x1, value=255, side=20):
    label = np.zeros((side, side), np.uint8)
    label[5:15, x0:x1] = value
    return label


def test_distances():
    a, b = square(5, 15), square(10, 20)
    assert soft_distance(a, a) == 0 and soft_distance(a, b) == pytest.approx(1 - 5 / 15)
    assert soft_distance(a * 0, a * 0) == 0 and soft_distance(a, a * 0) == 1
    assert class_distance(square(5, 15, 1), square(5, 15, 2)) == 1 and class_distance(a * 0, a * 0) == 0
    assert class_distance(square(5, 15, 1), square(10, 20, 1)) == pytest.approx(10 / 15)


def test_doubt_is_what_no_ingredient_takes_away():
    assert doubt_of({"a": 0.0, "b": 0.0}) == 0 and doubt_of({"a": 1.0, "b": 0.0}) == 1
    assert doubt_of({"a": 0.5, "b": 0.5}) == 0.75


def test_labels_that_agree_with_each_other_and_their_map_are_sure():
    a = square(5, 15)
    sure = doubts_of_saliency([a, a, a], a)
    assert sure == {"labels": 0, "map": 0, "unsure": 0, "border": 0, "share": 0} and doubt_of(sure) == 0
    one = doubts_of_saliency([a])
    assert "labels" not in one and "map" not in one  # what is absent says nothing
    other = doubts_of_saliency([a, square(10, 20)], a)
    assert other["labels"] == pytest.approx(1 - 5 / 15) and 0 < other["map"] < 0.3
    assert other["border"] == pytest.approx(10 / 80 / 2)
    soft = doubts_of_saliency([square(5, 15, 128)])
    assert soft["unsure"] == pytest.approx(127 / 128)
    assert doubts_of_saliency([a * 0])["share"] == 1 and doubts_of_saliency([a * 0 + 255])["share"] == 1
    assert "labels" not in doubts_of_saliency([a, a[:10]])  # of another size


def test_classes_that_are_not_the_images_are_doubtful():
    a = square(5, 15, 1)
    sure = doubts_of_classes([a, a], [1], cam=(a > 0).astype(np.float32), crf=[a, a])
    assert set(sure) == {"labels", "crf", "map", "classes", "border", "share"} and doubt_of(sure) == 0
    assert doubts_of_classes([a, square(5, 15, 2)], [1])["classes"] == 1
    assert doubts_of_classes([a], [1, 2])["classes"] == 0.5
    assert doubts_of_classes([a * 0], [])["classes"] == 0
    void = a.copy()
    void[a == 0] = 255
    assert doubts_of_classes([void, a], [1])["labels"] == 0
    assert doubts_of_classes([a], [1], crf=[a, square(10, 20, 1)])["crf"] == pytest.approx(10 / 15)
