"""Label maps of COCO's annotations are, pixel by pixel, those of pycocotools; what is expected here was made by it."""

import hashlib

import numpy as np
import pytest
from pycocotools import mask as coco

from data.coco14 import draw_label, label_of_category, read_instances
from misc.files.rle import rle_encode

POLYGONS = [  # height, width, points x y, rows that pycocotools 2.0.11 decodes
    (6, 8, [1.2, 0.7, 6.6, 2.1, 3.4, 5.3], "........ ..##.... ..####.. ...##... ...#.... ........"),
    (5, 7, [-2, -1, 4.5, -1, 9, 3.2, 2, 7], "######. ####### ####### ####### .######"),
    (4, 4, [0, 0, 4, 0, 4, 4, 0, 4], "#### #### #### ####"),
    (4, 4, [1, 1, 1, 1, 3, 1, 3, 3], ".... ..#. .... ...."),
    (5, 6, [0.5, 0.5, 5.5, 4.5, 5.5, 0.5, 0.5, 4.5], "...... .#..## .##### .#..## ......"),
]


def drawn(segmentation, shape, **facts) -> np.ndarray:
    return draw_label([{"segmentation": segmentation, "category_id": 5, "iscrowd": 0, **facts}], shape, {5: 1})


@pytest.mark.parametrize(("height", "width", "points", "rows"), POLYGONS)
def test_polygons(height, width, points, rows):
    expected = np.array([[c == "#" for c in row] for row in rows.split()], np.uint8)
    np.testing.assert_array_equal(drawn([points], (height, width)), expected)


def test_all_of_coco128(shared):
    instances = read_instances(shared("data", "coco128", "instances_train2017.json"), "--root")
    labels = label_of_category(instances)
    digest, crowd = hashlib.sha256(), 0
    for number, image in sorted(instances.images.items(), key=lambda item: item[1]["file_name"]):
        label = draw_label(instances.annotations[number], (image["height"], image["width"]), labels)
        digest.update(label.tobytes())
        crowd += int((label == 255).sum())
    # annToMask in the order of getAnnIds, 255 where iscrowd
    assert digest.hexdigest() == "8da71c8474d1194469171fec459d2ab57a5276a26d2d532c9319b59a3ed4336f"
    assert crowd > 100_000


def test_polygons_as_pycocotools_itself():
    rng = np.random.default_rng(0)
    for i in range(600):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        outlines = [rng.uniform(-10, 50, 2 * rng.integers(3, 12)) for _ in range(1 + i % 2)]
        outlines = [np.repeat(o.reshape(-1, 2), 1 + i % 3 % 2, axis=0).round(i % 4).ravel().tolist() for o in outlines]
        expected = coco.decode(coco.merge(coco.frPyObjects(outlines, height, width)))
        np.testing.assert_array_equal(drawn(outlines, (height, width)), expected)


@pytest.mark.parametrize("segmentation", [[], [[]], [[], [1, 1]], [[0, 0, 3, 3]]])
def test_an_annotation_without_a_polygon_is_told_and_a_scrap_beside_one_is_not(segmentation):
    with pytest.raises(OSError, match="no polygon of three points"):
        drawn(segmentation, (4, 4))
    assert drawn([*segmentation, [0, 0, 3, 0, 3, 3, 0, 3]], (4, 4)).sum() == 9


def test_run_lengths(photographs):
    mask = photographs.cat[..., 0] > 120
    code = rle_encode(mask)
    np.testing.assert_array_equal(drawn(code, mask.shape), mask)
    assert (drawn(rle_encode(np.ones((3, 5), bool)), (3, 5)) == 1).all()
    assert not drawn(rle_encode(np.zeros((3, 5), bool)), (3, 5)).any()


def test_later_covers_earlier_and_crowds_are_void():
    square = {"segmentation": [[0, 0, 3, 0, 3, 3, 0, 3]], "category_id": 7}
    wide = {"segmentation": [[0, 0, 6, 0, 6, 2, 0, 2]], "category_id": 5, "iscrowd": 0}
    crowd = {"segmentation": rle_encode(np.eye(6, dtype=bool)), "category_id": 5, "iscrowd": 1}
    labels = {5: 1, 7: 2}
    assert draw_label([square, wide], (6, 6), labels)[:4, :4].tolist() == [[1] * 4] * 2 + [[2, 2, 2, 0], [0] * 4]
    first, last = draw_label([crowd, square], (6, 6), labels), draw_label([square, crowd], (6, 6), labels)
    assert first.diagonal().tolist() == [2, 2, 2, 255, 255, 255] and (last.diagonal() == 255).all()
    assert not draw_label([], (2, 3), labels).any() and draw_label([], (2, 3), labels).shape == (2, 3)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [[0, 0, 3]],
        [[0, 0, 3, float("nan")]],
        [[0, 0, 3, 1e12, 5, 5]],
        [["a", "b"]],
        [[[0, 0], [1, 1]]],
        {"size": [4, 4], "counts": [3, 2]},
        {"size": [4, 5], "counts": [16]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "ö"},
        {"counts": [16]},
    ],
)
def test_damaged_annotations(segmentation):
    with pytest.raises(OSError, match="annotation 9 has no usable segmentation"):
        drawn(segmentation, (4, 4), id=9)
