"""Scores of a classifier and of its maps."""

import numpy as np
import pytest
from PIL import Image

from misc.files.boxes import ImageBoxes
from pgt.metrics.classification import ClassScores, mean_average_precision
from step.train_cam import MapScores


def test_mean_average_precision_of_a_ranking_done_by_hand():
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    labels = np.array([[1], [0], [1], [0]], bool)
    assert mean_average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)


def test_mean_average_precision_does_not_depend_on_the_order_of_equals():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, (50, 3)).astype(float), rng.random((50, 3)) < 0.3
    order = rng.permutation(50)
    assert mean_average_precision(scores, labels) == pytest.approx(mean_average_precision(scores[order], labels[order]))


def test_mean_average_precision_equals_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(80, 4)).round(1), rng.random((80, 4)) < 0.4
    assert mean_average_precision(scores, labels) == pytest.approx(metrics.average_precision_score(labels, scores))


def test_top1():
    scores = ClassScores(single_label=True)
    for logits, label in (([3, 1], [1, 0]), ([3, 1], [0, 1]), ([0, 1], [0, 1]), ([0, 1], [0, 1])):
        scores.step(np.array(logits), np.array(label))
    assert scores.get_results() == {"top1": 0.75}
    several = ClassScores(single_label=False)
    several.step(np.array([3, 1]), np.array([1, 1]))
    assert several.get_results() == {"mean_ap": 1.0}


def test_maps_against_boxes_and_masks(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    Image.fromarray(mask).save(tmp_path / "a.png")
    boxes = {"a": ImageBoxes(np.array([[40.0, 20, 98, 58]]), (120.0, 80.0))}  # of a picture twice as large
    good, bad = MapScores(boxes, {"a": tmp_path / "a.png"}), MapScores(boxes)
    good.step("a", mask[None] / np.float32(255), (40, 60))
    good.step("unknown", mask[None] / np.float32(255), (40, 60))
    bad.step("a", (mask[None] == 0).astype(np.float32)[:, :8, :8], (40, 60))
    assert good.get_results() == {"max_box_acc": 1.0, "max_f": pytest.approx(1.0, abs=1e-3)}
    assert bad.get_results() == {"max_box_acc": 0.0}
    assert MapScores().get_results() == {}
    with pytest.raises(OSError, match="is 60 x 40"):
        good.step("a", np.ones((1, 4, 4), np.float32), (41, 60))
