"""Run-length codes, as COCO's own tool has them."""

import numpy as np
import pytest
from PIL import Image

from misc.files.rle import decode_counts, rle_encode


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


def decode(rle):
    counts = decode_counts(rle["counts"])
    flat = np.repeat(np.arange(len(counts)) % 2, counts)
    return flat.reshape(rle["size"], order="F").astype(bool)


@pytest.mark.parametrize("seed", range(20))
def test_rle_decodes_to_the_mask(seed):
    mask = noise(seed) == 1
    np.testing.assert_array_equal(decode(rle_encode(mask)), mask)
    for whole in (np.zeros_like(mask), np.ones_like(mask)):
        np.testing.assert_array_equal(decode(rle_encode(whole)), whole)


def test_rle_is_that_of_pycocotools(masks):
    coco = pytest.importorskip("pycocotools.mask")
    for mask in [*masks, *(noise(seed) == 1 for seed in range(30))]:
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle_encode(mask) == {"size": expected["size"], "counts": expected["counts"].decode()}
