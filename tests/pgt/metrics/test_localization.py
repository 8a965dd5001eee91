"""MaxBoxAcc, against connected components at every threshold in turn."""

from pathlib import Path

import numpy as np
import pytest
from skimage.filters import gaussian
from skimage.measure import label, regionprops

from misc.errors import InputError
from misc.files.boxes import read_boxes
from pgt.metrics.localization import BoxAccuracy, largest_boxes, to_levels


def naive_boxes(levels):
    """skimage numbers parts by their first pixel, and max takes the first of equals."""
    out = np.full((256, 4), -1)
    for t in range(256):
        parts = regionprops(label(levels >= t, connectivity=2))
        if parts:
            y0, x0, y1, x1 = max(parts, key=lambda part: part.area).bbox
            out[t] = x0, y0, x1 - 1, y1 - 1
    return out


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_those_of_connected_components(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 24, 2)
    values = [rng.random(shape), gaussian(rng.random(shape), 2), rng.integers(0, 3, shape).astype(float)][seed % 3]
    levels = to_levels(values)
    np.testing.assert_array_equal(largest_boxes(levels), naive_boxes(levels))


def naive_max_box_acc(pairs, iou):
    hits = np.zeros(255)
    for cam, boxes in pairs:
        found = naive_boxes(to_levels(cam))
        for t in range(255):
            x0, y0, x1, y1 = found[t + 1]  # map > t
            if x0 < 0:
                continue
            x1, y1 = min(x1 + 1, cam.shape[1] - 1), min(y1 + 1, cam.shape[0] - 1)
            best = 0
            for a0, b0, a1, b1 in boxes:
                both = max(min(x1, a1) - max(x0, a0) + 1, 0) * max(min(y1, b1) - max(y0, b0) + 1, 0)
                either = (x1 - x0 + 1) * (y1 - y0 + 1) + (a1 - a0 + 1) * (b1 - b0 + 1) - both
                best = max(best, both / either)
            hits[t] += best >= iou
    return hits


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.7])
def test_accuracy_is_that_of_one_threshold_after_another(iou):
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(8):
        corners = np.sort(rng.integers(0, 30, (rng.integers(1, 4), 2, 2)), axis=1)
        pairs.append((gaussian(rng.random((30, 40)), 4), corners.reshape(-1, 4)))
    whole, a, b = BoxAccuracy(iou), BoxAccuracy(iou), BoxAccuracy(iou)
    for i, pair in enumerate(pairs):
        whole.step(*pair)
        (a, b)[i % 2].step(*pair)
    hits = naive_max_box_acc(pairs, iou)
    np.testing.assert_array_equal(whole.hits, hits)
    a.merge(b)
    np.testing.assert_array_equal(a.hits, hits)
    results = whole.get_results()
    assert results["max_box_acc"] == hits.max() / 8 and results["best_threshold"] == hits.argmax() / 255


def test_a_map_of_the_box_is_right_and_one_of_several_boxes_is_enough():
    cam = np.zeros((50, 60))
    cam[10:30, 20:50] = 1
    for boxes, right in (([[20, 10, 50, 30]], 1), ([[0, 0, 5, 5], [21, 9, 48, 30]], 1), ([[0, 0, 19, 49]], 0)):
        accuracy = BoxAccuracy()
        accuracy.step(cam, np.array(boxes))
        assert accuracy.get_results()["max_box_acc"] == right
    flat = BoxAccuracy()
    flat.step(np.full((5, 5), 0.7), np.array([[0, 0, 4, 4]]))
    assert flat.get_results()["max_box_acc"] == 0  # a map that says nothing


def test_bad_input():
    accuracy = BoxAccuracy()
    for cam, boxes in (
        (np.zeros((2, 2, 2)), [[0, 0, 1, 1]]),
        (np.full((2, 2), np.nan), [[0, 0, 1, 1]]),
        (np.zeros((2, 2)), np.zeros((0, 4))),
        (np.zeros((2, 2)), [[0, 0, 1]]),
    ):
        with pytest.raises(ValueError, match="must be"):
            accuracy.step(cam, boxes)
    with pytest.raises(ValueError, match="no image"):
        accuracy.get_results()
    with pytest.raises(ValueError, match="iou"):
        BoxAccuracy(0)
    with pytest.raises(ValueError, match="do not add up"):
        BoxAccuracy(0.5).merge(BoxAccuracy(0.3))


def test_boxes_of_a_csv_follow_the_size_of_the_map(shared):
    path = shared("data", "imagenette", "val_boxes.csv")
    boxes = read_boxes(path)
    with path.open() as f:
        header, *rows = (line.strip().split(",") for line in f)
    assert sum(len(b.xyxy) for b in boxes.values()) == len(rows)
    for row in rows[:50]:
        facts = dict(zip(header, row, strict=True))
        expected = [float(facts[f"{c}_224"]) for c in ("x0", "y0", "x1", "y1")]
        found = boxes[Path(facts["file"]).with_suffix("").as_posix()].at((224, 224))
        assert np.abs(found - expected).max(axis=1).min() < 0.01


def test_bad_csv(tmp_path):
    path = tmp_path / "boxes.csv"
    for text, message in (
        ("file,x0,y0,x1\na,1,2,3\n", "no column 'y1'"),
        ("file,x0,y0,x1,y1\na,1,2,3,4\nb,1,2,x,4\n", "line 3"),
        ("file,x0,y0,x1,y1\na,1,2\n", "line 2"),
        ("file,x0,y0,x1,y1\n", "no box"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_boxes(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_boxes(tmp_path / "none.csv")
    path.write_text("file,x0,y0,x1,y1\nsub/a.jpg,1,2,3,4\n")
    assert read_boxes(path)["sub/a"].at((7, 9)).tolist() == [[1, 2, 3, 4]]
