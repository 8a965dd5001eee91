"""Files are whole or absent, and know what they were made from."""

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.files.predictions import read_prediction
from misc.files.store import (
    fingerprint,
    is_current,
    read_json,
    replacing,
    require_writable,
    write_cams,
    write_csv,
    write_json,
    write_npz,
    write_png,
)

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def test_png_round_trip_and_fingerprint(tmp_path):
    path = tmp_path / "sub" / "a.png"
    assert not is_current(path, "x")
    write_png(path, GRAY, "x")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), GRAY)
    assert is_current(path, "x") and not is_current(path, "y")
    first = path.read_bytes()
    write_png(path, GRAY, "x")
    assert path.read_bytes() == first
    path.write_bytes(first[:20])
    assert not is_current(path, "x")


def test_fingerprint_tells_every_part_apart(tmp_path):
    (tmp_path / "f").write_bytes(b"ab")
    seen = {fingerprint(*p) for p in ([b"ab"], [b"a", b"b"], [b"", b"ab"], [{"a": 1}], [{"a": 2}], ["abc"])}
    assert len(seen) == 6
    assert fingerprint(tmp_path / "f") == fingerprint(b"ab")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": "ü"})
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert read_json(path) == {"old": "ü"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_no_space_and_no_folder_are_one_clear_line(tmp_path):
    with (
        pytest.raises(InputError, match=r"cannot write .*a\.png: No space left on device"),
        replacing(tmp_path / "a.png"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    for write in (lambda p: write_png(p / "a.png", GRAY), require_writable):
        with pytest.raises(InputError, match="cannot write .*file"):
            write(tmp_path / "file")


def test_require_writable_leaves_nothing(tmp_path):
    require_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_json_that_is_none(tmp_path):
    assert read_json(tmp_path / "none.json") == {}
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    assert read_json(tmp_path / "bad.json") == read_json(tmp_path / "list.json") == {}


def test_csv(tmp_path):
    write_csv(tmp_path / "a.csv", ("file", "reason"), [("ä, b.jpg", "bad")])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines() == ["file,reason", '"ä, b.jpg",bad']


def test_cams_round_trip_with_the_loss_that_is_stated(tmp_path):
    cam = np.random.default_rng(0).random((3, 7, 5)).astype(np.float32)
    cam[:, 0, 0], cam[:, 1, 1] = 0, 1
    path = tmp_path / "a.npz"
    write_cams(path, np.array([2, 5, 19]), cam, "made from this")
    held = read_prediction(path)
    assert held.labels.tolist() == [3, 6, 20] and np.abs(held.scores - cam).max() <= 1 / 510 + 1e-6
    assert not held.scores[:, 0, 0].any() and (held.scores[:, 1, 1] == 1).all()
    assert is_current(path, "made from this") and not is_current(path, "made from that")
    first = path.read_bytes()
    write_cams(path, np.array([2, 5, 19]), cam, "made from this")
    assert path.read_bytes() == first


def test_cams_of_no_class_and_of_many(tmp_path):
    write_cams(tmp_path / "none.npz", np.zeros(0, int), np.zeros((0, 4, 4)))
    assert not read_prediction(tmp_path / "none.npz").labels.size
    write_cams(tmp_path / "many.npz", np.array([300]), np.zeros((1, 2, 2)))
    assert read_prediction(tmp_path / "many.npz").labels.tolist() == [301]


def test_an_npz_that_is_cut_or_has_no_fingerprint_is_not_current(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, "x", a=np.arange(1000))
    path.write_bytes(path.read_bytes()[:-60])
    assert not is_current(path, "x") and not is_current(tmp_path / "absent.npz", "x")
    np.savez(path, a=np.arange(3))
    assert not is_current(path, "")
