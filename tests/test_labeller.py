"""Three lines of Python: the labels of run_sample.py, byte for byte."""

import io

import numpy as np
import pytest
from PIL import Image

import run_sample
from labeller import Labeller
from misc.errors import InputError
from misc.run.passes import run_passes

FAST = {"cam_network": "efficientnet_lite0", "cam_scales": (1.0, 0.5), "device": "cpu", "quiet": True}
KINDS = ("cam", "cam_pamr", "cam_slic", "sal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    """Two photographs, one of them turned by its EXIF and larger than --max_side, in two folders."""
    root = tmp_path_factory.mktemp("photos")
    (root / "a").mkdir()
    Image.fromarray(photographs.cat[::2, ::2]).save(root / "a" / "cat.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photographs.coffee[::2, ::2]).save(root / "coffee.jpg", exif=exif)
    return root


@pytest.fixture(scope="module")
def label(tmp_path_factory):
    return Labeller(**FAST, max_side=200, label_pamr_num_iter=2, result_dir=tmp_path_factory.mktemp("none"))


def run(folder, result, *more):
    words = [f"--{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in FAST.items()]
    off = [f"--{name}=False" for name in ("eval_pass", "overview_pass", "report_pass")]
    return run_passes(
        run_sample.PASSES, lambda: run_sample.parse([str(folder), f"--result_dir={result}", *words, *off, *more])
    )


def test_the_labels_are_those_of_run_sample_byte_for_byte(folder, label, tmp_path):
    assert run(folder, tmp_path, "--max_side=200", "--label_pamr_num_iter=2") == 0
    for name in ("a/cat.png", "coffee.jpg"):
        found = label(folder / name)
        assert set(found) == {"image", *KINDS}
        for kind in KINDS:
            written = np.asarray(Image.open((tmp_path / kind / name).with_suffix(".png")))
            np.testing.assert_array_equal(found[kind], written, err_msg=kind)
            assert found["image"].shape[:2] == written.shape and np.ptp(written) > 20
    with Image.open(folder / "coffee.jpg") as stored:
        assert found["image"].shape[:2] == stored.size  # turned


def test_a_picture_is_a_path_a_text_an_open_file_or_an_array(folder, label):
    path = folder / "a" / "cat.png"
    wanted = label(path)
    for picture in (str(path), io.BytesIO(path.read_bytes()), wanted["image"]):
        found = label(picture)
        assert all((found[key] == wanted[key]).all() for key in wanted)


def test_what_cannot_be_labelled_is_told(label, tmp_path):
    (tmp_path / "a.jpg").write_text("text")
    with pytest.raises(OSError, match=r"a\.jpg: is no picture that can be read: it holds text"):
        label(tmp_path / "a.jpg")
    with pytest.raises(OSError, match="is no picture"):
        label(io.BytesIO(b"text"))
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(InputError, match=r"\(H,W,3\) uint8"):
            label(array)
    with pytest.raises(InputError, match="nonsense is no flag of run_sample.py"):
        Labeller(nonsense=1)
    with pytest.raises(InputError, match="max_side"):
        Labeller(max_side=0)


def test_flags_and_recipes_are_those_of_run_sample(folder, tmp_path):
    found = Labeller(**FAST, sal_weights=None, label_recipe="published", slic_recipe="published", label_binary=0.5)(
        folder / "a" / "cat.png"
    )
    flags = ("--sal_weights=none", "--label_recipe=published", "--slic_recipe=published", "--label_binary=0.5")
    assert run(folder / "a", tmp_path, *flags) == 0
    assert "sal" not in found and set(np.unique(found["cam_pamr"])) == {0, 255}
    for kind in ("cam_pamr", "cam_slic"):
        np.testing.assert_array_equal(found[kind], np.asarray(Image.open(tmp_path / kind / "cat.png")))
