"""What other projects wrote, and files that mean harm."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.files.held import Held
from misc.files.pickles import load_plain_pickle, read_npy
from misc.files.predictions import Cams, find_predictions, read_prediction

SCORES = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)


def test_pictures_give_their_values_as_stored(tmp_path):
    label = np.arange(20, dtype=np.uint8).reshape(4, 5)
    label[0] = 255
    palette = Image.fromarray(label)
    palette.putpalette(bytes(range(256)) * 3)
    palette.save(tmp_path / "p.png")
    Image.fromarray(label).save(tmp_path / "l.png")
    Image.fromarray(label.astype(np.uint16) * 100).save(tmp_path / "i.png")
    Image.fromarray(label > 9).save(tmp_path / "1.png")
    np.save(tmp_path / "n.npy", label)
    for name, expected in (("p.png", label), ("l.png", label), ("n.npy", label), ("1.png", label > 9)):
        np.testing.assert_array_equal(read_prediction(tmp_path / name), expected)
    np.testing.assert_array_equal(read_prediction(tmp_path / "i.png"), label.astype(int) * 100)


def test_palette_masks_of_voc(shared):
    path = sorted(shared("data", "VOCdevkit", "VOC2012", "SegmentationClass").iterdir())[0]
    assert set(np.unique(read_prediction(path))) <= {*range(21), 255}


def test_cams_of_irn_seam_and_ours_are_one(tmp_path):
    torch = pytest.importorskip("torch")
    shift = {"seam.npy": {14: SCORES[1], 3: SCORES[0]}, "int64.npy": {np.int64(3): SCORES[0], np.int64(14): SCORES[1]}}
    small = torch.zeros(2, 2, 2)
    shift["irn.npy"] = {"keys": torch.tensor([3, 14]), "cam": small, "high_res": SCORES}
    shift["irn_tensor.npy"] = {"keys": torch.tensor([3, 14]), "cam": torch.from_numpy(SCORES)}
    shift["float64.npy"] = {3: SCORES[0].astype(np.float64), 14: np.asfortranarray(SCORES[1])}
    for name, held in shift.items():
        np.save(tmp_path / name, held)
    np.savez(tmp_path / "ours.npz", keys=[3, 14], cam=SCORES)
    np.savez(tmp_path / "order.npz", keys=[14, 3], cam=SCORES[::-1])
    np.savez(tmp_path / "numbers.npz", **{"14": SCORES[1], "3": SCORES[0]})
    for path in tmp_path.iterdir():
        cams = read_prediction(path)
        assert cams.labels.tolist() == [4, 15] and cams.scores.dtype == np.float32, path
        np.testing.assert_array_equal(cams.scores, SCORES)
        assert read_prediction(path, keys="label").labels.tolist() == [3, 14]


def test_an_image_without_a_class(tmp_path):
    np.save(tmp_path / "none.npy", {})
    assert read_prediction(tmp_path / "none.npy").scores.size == 0


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_pickles_of_numpy_1_and_2_by_every_protocol(protocol, module):
    held = {3: SCORES[0], np.int32(4): SCORES[1].astype(">f8"), 5: np.arange(6, dtype=np.uint8)[::2], "n": (1, [2.5])}
    data = pickle.dumps(np.array(held, dtype=object), protocol)
    if protocol >= 4:  # without the frame, whose length is stored, and so is that of names
        start = data.index(b"\x95")
        data = data[:start] + data[start + 9 :]
    for old in (b"numpy._core", b"numpy.core"):
        for name in (b".multiarray", b".numeric"):
            before, after = (bytes([len(m + name)] * (protocol >= 4)) + m + name for m in (old, module))
            data = data.replace(before, after)
    assert module in data
    found = load_plain_pickle(io.BytesIO(data))
    assert list(found) == [3, 4, 5, "n"] and found["n"] == (1, [2.5])
    np.testing.assert_array_equal(found[3], SCORES[0])
    np.testing.assert_array_equal(found[4], SCORES[1])
    assert found[5].tolist() == [0, 2, 4]


class Bomb:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def npy_of(value):
    f = io.BytesIO()
    np.lib.format.write_array_header_1_0(f, {"descr": "|O", "fortran_order": False, "shape": ()})
    f.write(pickle.dumps(value))
    return f.getvalue()


def test_a_pickle_that_runs_something_is_refused_and_does_not_run(tmp_path):
    import os
    import subprocess

    target = tmp_path / "ran"
    bombs = [
        Bomb(os.system, f"touch {target}"),
        Bomb(os.mkdir, str(target)),
        Bomb(eval, f"open({str(target)!r}, 'w')"),
        Bomb(subprocess.check_call, ["touch", str(target)]),
        Bomb(getattr, "text", "upper"),
        Bomb(np.load, str(target)),
        Bomb(__import__, "os"),
    ]
    for i, bomb in enumerate([*bombs, {3: bombs[0]}, [bombs[1]]]):
        path = tmp_path / f"{i}.npy"
        path.write_bytes(npy_of(bomb))
        with pytest.raises(OSError, match="no pickle of plain arrays.*asks for"):
            read_prediction(path)
        assert not target.exists()
    # what it would have done
    pickle.loads(npy_of(bombs[1])[-len(pickle.dumps(bombs[1])) :])
    assert target.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
        b"cnumpy\nndarray\n(I9\ntR.",
        b"cnumpy\ndtype\n(I8\ntR.",
        # an array of objects made of bytes; a number made of an object; a state for a function; numbers beyond the data
        b"cnumpy.core.numeric\n_frombuffer\n(C\x08\x00\x00\x00\x00\x00\x00\x00\x00cnumpy\ndtype\n(VO\ntR(I1\ntVC\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VO\ntRC\x08\x00\x00\x00\x00\x00\x00\x00\x00tR.",
        b"cnumpy\ndtype\n(N}V__code__\nI1\nstb.",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x01\x00cnumpy\ndtype\n(Vf8\ntR(I9\ntVC\ntR.",
        b"]\x94h\x00a.",
        b"garbage",
        b"",
    ],
)
def test_crooked_pickles_are_refused(data):
    with pytest.raises(OSError, match="no pickle of plain arrays"):
        load_plain_pickle(io.BytesIO(data))


def test_a_tensor_cannot_look_beyond_its_storage(tmp_path):
    torch = pytest.importorskip("torch")
    data = npy_of({"keys": torch.tensor([1]), "cam": torch.zeros(1, 3, 4)})
    assert data.count(b"K\x03K\x04\x87") == 1  # its size
    path = tmp_path / "far.npy"
    path.write_bytes(data.replace(b"K\x03K\x04\x87", b"K\xffK\xff\x87"))
    with pytest.raises(OSError, match="no pickle of plain arrays"):
        read_prediction(path)


def test_files_that_hold_something_else(tmp_path):
    np.save(tmp_path / "float.npy", SCORES[0])
    np.save(tmp_path / "three.npy", np.zeros((2, 2, 2), np.uint8))
    np.save(tmp_path / "text.npy", np.array("text", object))
    np.save(tmp_path / "words.npy", {"a": SCORES[0]})
    np.save(tmp_path / "sizes.npy", {1: np.zeros((2, 3)), 2: np.zeros((3, 2))})
    np.savez(tmp_path / "count.npz", keys=[1, 2, 3], cam=SCORES)
    np.savez(tmp_path / "twice.npz", keys=[1, 1], cam=SCORES)
    np.savez(tmp_path / "no_maps.npz", keys=[1, 1])
    np.savez(tmp_path / "object.npz", keys=[1, 1], cam=np.array([None, {}]))
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colour.png")
    for name in ("cut.npy", "cut.npz", "cut.png", "empty.npy"):
        (tmp_path / name).write_bytes(b"" if name == "empty.npy" else b"\x93NUMPY\x01\x00v\x00{'descr'")
    np.save(tmp_path / "whole.npy", np.zeros((50, 50), np.uint8))
    (tmp_path / "short.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    (tmp_path / "whole.npy").unlink()
    for path in tmp_path.iterdir():
        with pytest.raises(OSError):
            read_prediction(path)
    with pytest.raises(OSError):
        read_prediction(tmp_path / "none.npy")
    with pytest.raises(OSError, match=r"no \.npy file"):
        read_npy(Held(tmp_path / "cut.png"))


def test_label_map_of_cams_is_the_first_of_equals():
    cams = Cams(np.array([2, 5]), np.float32([[[0.25, 0.3, 0.3, 0.1]], [[0.1, 0.3, 0.4, 0.2]]]))
    assert cams.label_map(0.25).tolist() == [[0, 2, 5, 0]] and not cams.has_background
    stored = Cams(np.array([0, 5]), np.float32([[[0.5, 0.6]], [[0.5, 0.7]]]))
    assert stored.label_map(0.99).tolist() == [[0, 5]] and stored.has_background


def test_find_predictions(tmp_path):
    assert find_predictions(tmp_path / "none", ["a"]) == find_predictions(tmp_path, ["a"]) == {}
    (tmp_path / "sub").mkdir()
    for name in ("a.PNG", "b.c.npz", "sub/d.jpg", "sub/a.png", "e.png", "e.txt", "sub/f.png"):
        (tmp_path / name).touch()
    found = find_predictions(tmp_path, ["a", "b.c", "sub/d", "x/e", "f", "none"])  # flat files for x/e, not the reverse
    files = {"a": "a.PNG", "b.c": "b.c.npz", "sub/d": "sub/d.jpg", "x/e": "e.png"}
    assert found == {name: tmp_path / file for name, file in files.items()}
    (tmp_path / "a.npy").touch()
    assert set(find_predictions(tmp_path, ["b.c"])) == {"b.c"}
    with pytest.raises(InputError, match="have one name"):
        find_predictions(tmp_path, ["a"])
