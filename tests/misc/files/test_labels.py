"""Palette pictures of labels."""

import numpy as np
from PIL import Image

from misc.files.labels import has_fingerprint, voc_palette, write_mask


def test_palette_masks_are_kept_as_labels(tmp_path):
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label[0, 0] = 255
    write_mask(tmp_path / "a.png", label, "abc")
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), label)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[label])
    assert has_fingerprint(tmp_path / "a.png")
    Image.fromarray(label).save(tmp_path / "b.png")
    assert not has_fingerprint(tmp_path / "b.png")
