"""Run-length codes, as COCO's own tool has them."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from misc.files.rle import rle_decode, rle_encode


@pytest.fixture
def masks(shared):
    paths = sorted((shared("data", "VOCdevkit", "VOC2012") / "SegmentationClass").iterdir())[:6]
    labels = [np.asarray(Image.open(path)) for path in paths]
    return [label == value for label in labels for value in np.unique(label)]


def noise(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 40, 2)
    return (
        rng.integers(0, rng.integers(1, 5), shape) if seed % 2 else np.kron(rng.integers(0, 3, (3, 4)), np.eye(7) > 0)
    )


@pytest.mark.parametrize("seed", range(20))
def test_rle_decodes_to_the_mask(seed):
    mask = noise(seed) == 1
    for m in (mask, np.zeros_like(mask), np.ones_like(mask)):
        code = rle_encode(m)
        np.testing.assert_array_equal(rle_decode(code, mask.shape), m)
        np.testing.assert_array_equal(rle_decode({**code, "counts": code["counts"].encode()}, mask.shape), m)


def test_codes_of_real_masks_are_those_of_pycocotools_and_back(masks):
    for mask in masks:
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle_encode(mask) == {"size": expected["size"], "counts": expected["counts"].decode()}
        assert json.loads(json.dumps(rle_encode(mask))) == rle_encode(mask)
        np.testing.assert_array_equal(rle_decode(rle_encode(mask), mask.shape), mask)


def test_counts_may_be_numbers():
    numbers = {"size": [2, 3], "counts": [1, 2, 3]}
    assert rle_decode(numbers, (2, 3)).tolist() == [[False, True, False], [True, False, False]]
    assert rle_encode(rle_decode(numbers, (2, 3))) == {"size": [2, 3], "counts": "123"}


@pytest.mark.parametrize("counts", ["4", "o", "8" * 9, "124", "1\u00e4", [1, 2], [9, -3], [[6]], ["six"], None])
def test_codes_that_pycocotools_would_read_past_their_end_are_refused(counts):
    with pytest.raises((TypeError, ValueError)):
        rle_decode({"size": [2, 3], "counts": counts}, (2, 3))
    with pytest.raises(ValueError, match="not those of 3x2 pixels"):
        rle_decode({"size": [3, 2], "counts": "123"}, (2, 3))
