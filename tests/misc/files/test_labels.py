"""Palette pictures of labels."""

import numpy as np
from PIL import Image

from misc.files.labels import voc_palette, write_mask
from misc.files.store import fingerprint_of


def test_palette_masks_are_kept_as_labels(tmp_path):
    label = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label[0, 0] = 255
    write_mask(tmp_path / "a.png", label, "abc")
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), label)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), voc_palette()[label])
    assert fingerprint_of(tmp_path / "a.png") == "abc"
    write_mask(tmp_path / "b.png", label)
    assert fingerprint_of(tmp_path / "b.png") == ""  # of this program all the same
    Image.fromarray(label).save(tmp_path / "c.png")
    assert fingerprint_of(tmp_path / "c.png") is None
