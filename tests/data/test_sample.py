"""The sample pictures: written whole and once, with masks that fit them."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from data import sample
from misc.errors import InputError

ROOT = Path(sample.__file__).resolve().parent.parent
SIZES = {  # name -> (width, height)
    "astronaut": (512, 512),
    "camera": (512, 512),
    "chelsea": (451, 300),
    "coffee": (600, 400),
    "coins": (384, 303),
    "motorcycle": (741, 500),
    "rocket": (640, 427),
    "shuttle": (163, 276),
}
SHARES = {  # name -> foreground share of the mask
    "astronaut": 0.537,
    "camera": 0.360,
    "chelsea": 0.743,
    "coffee": 0.474,
    "coins": 0.339,
    "motorcycle": 0.293,
    "rocket": 0.0186,
    "shuttle": 0.422,
}
LANDMARKS = {  # name -> pixels (x, y) of the object, and of the background
    "astronaut": (
        [(202, 100), (60, 400), (400, 480), (440, 352)],
        [(20, 150), (415, 20), (440, 300), (364, 335)],
    ),
    "camera": (
        [(190, 140), (290, 160), (293, 400), (350, 401)],
        [(400, 50), (257, 190), (250, 225), (330, 450)],
    ),
    "chelsea": ([(170, 110), (260, 240), (320, 140)], [(5, 50), (420, 60), (420, 250)]),
    "coffee": ([(290, 150), (410, 80), (100, 250), (400, 340)], [(30, 30), (550, 200), (560, 390)]),
    "coins": ([(43, 55), (335, 45), (345, 185), (357, 270)], [(110, 15), (150, 90), (300, 200), (5, 300)]),
    "motorcycle": (
        [(280, 210), (370, 340), (130, 320), (345, 130)],
        [(40, 470), (625, 350), (490, 240), (240, 60)],
    ),
    "rocket": ([(322, 140), (322, 250), (322, 400)], [(322, 110), (200, 200), (322, 420), (338, 250)]),
    "shuttle": ([(65, 20), (45, 150), (100, 120), (15, 220)], [(10, 20), (140, 150), (10, 260), (75, 262)]),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    return sample.write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def package(monkeypatch, tmp_path) -> Path:
    """The data folder of an installed scikit-image that has no pictures."""
    data = tmp_path / "skimage" / "data"
    data.mkdir(parents=True)
    spec = SimpleNamespace(origin=str(data.parent / "__init__.py"))
    monkeypatch.setattr(sample, "find_spec", lambda name: spec)
    return data


def read_mask(folders: tuple[Path, Path], name: str) -> np.ndarray:
    return np.asarray(Image.open(folders[1] / f"{name}.png"))


def state(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()}


def test_writes_one_image_and_one_mask_per_picture(folders):
    assert [f.name for f in folders] == ["images", "masks"]
    assert sorted(p.name for p in folders[0].iterdir()) == [f"{n}.{'jpg' if n == 'rocket' else 'png'}" for n in SIZES]
    assert sorted(p.name for p in folders[1].iterdir()) == [f"{n}.png" for n in SIZES]


@pytest.mark.parametrize("name", SIZES)
def test_mask_fits_its_image(folders, name):
    (path,) = folders[0].glob(f"{name}.*")
    with Image.open(path) as image:
        assert image.size == SIZES[name]
    mask = read_mask(folders, name)
    assert mask.dtype == np.uint8
    assert mask.shape == SIZES[name][::-1]
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("name", SHARES)
def test_foreground_share(folders, name):
    assert (read_mask(folders, name) > 0).mean() == pytest.approx(SHARES[name], abs=1e-3)


@pytest.mark.parametrize("name", LANDMARKS)
def test_landmarks_lie_on_their_side(folders, name):
    mask = read_mask(folders, name)
    inside, outside = ([int(mask[y, x]) for x, y in points] for points in LANDMARKS[name])
    assert set(inside) == {255}
    assert set(outside) == {0}


@pytest.mark.parametrize("name", SIZES)
def test_polygons_lie_inside_the_picture(name):
    picture = sample.pictures()[name]
    for polygon in picture.polygons + picture.holes:
        points = np.array(polygon)
        assert points.shape == (len(polygon), 2)
        assert len(points) >= 4
        assert (points >= 0).all()
        assert (points < SIZES[name]).all()


def test_holes_lie_in_the_object():
    for name, picture in sample.pictures().items():
        solid = sample.draw_mask(sample.Picture(picture.file, "", picture.polygons), SIZES[name])
        for hole in picture.holes:
            alone = sample.draw_mask(sample.Picture(picture.file, "", [hole]), SIZES[name]) > 0
            assert (solid[alone] == 255).mean() > 0.95


def test_images_are_scikit_images_own(folders):
    from skimage import data, io

    assert np.array_equal(io.imread(folders[0] / "coffee.png"), data.coffee())
    assert np.array_equal(io.imread(folders[0] / "camera.png"), data.camera())
    assert np.array_equal(io.imread(folders[0] / "rocket.jpg"), data.rocket())
    assert np.array_equal(io.imread(folders[0] / "shuttle.png"), data.astronaut()[:276, 349:])


def test_draw_mask_is_union_minus_holes():
    square, overlap, hole = ([[a, a], [b, a], [b, b], [a, b]] for a, b in ((1, 6), (4, 9), (5, 5)))
    mask = sample.draw_mask(sample.Picture("", "", [square, overlap], [hole]), (12, 10))
    expected = np.zeros((10, 12), np.uint8)
    expected[1:7, 1:7] = expected[4:10, 4:10] = 255
    expected[5, 5] = 0
    assert np.array_equal(mask, expected)


def test_second_call_leaves_every_file_alone(tmp_path):
    sample.write_sample(tmp_path)
    before = state(tmp_path)
    assert sample.write_sample(tmp_path) == (tmp_path / "images", tmp_path / "masks")
    assert state(tmp_path) == before


def test_same_bytes_anywhere(tmp_path, folders):
    for here, there in zip(sample.write_sample(tmp_path), folders, strict=True):
        assert {p.name: p.read_bytes() for p in here.iterdir()} == {p.name: p.read_bytes() for p in there.iterdir()}


def test_missing_files_come_back_and_others_stay(tmp_path):
    image_dir, mask_dir = sample.write_sample(tmp_path)
    whole = state(tmp_path)
    (image_dir / "coins.png").unlink()
    (mask_dir / "rocket.png").unlink()
    (mask_dir / "coffee.png").write_bytes(b"someone's own")
    sample.write_sample(tmp_path)
    assert (mask_dir / "coffee.png").read_bytes() == b"someone's own"
    assert {p: b for p, (b, _) in state(tmp_path).items() if "coffee" not in p} == {
        p: b for p, (b, _) in whole.items() if "coffee" not in p
    }


def test_interrupted_write_leaves_no_half_file(tmp_path, monkeypatch, folders):
    def stop(part: Path, content: bytes):
        with part.open("wb") as f:
            f.write(content[:1000])
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(Path, "write_bytes", stop)
        with pytest.raises(KeyboardInterrupt):
            sample.write_sample(tmp_path)
    assert state(tmp_path) == {}
    sample.write_sample(tmp_path)
    assert (tmp_path / "images" / "astronaut.png").read_bytes() == (folders[0] / "astronaut.png").read_bytes()


def test_leftover_of_a_killed_run_is_not_taken_for_a_picture(tmp_path, monkeypatch, folders):
    def killed(source, target):
        raise SystemExit  # before the temporary file got its name, which then stays behind

    with monkeypatch.context() as m:
        m.setattr(Path, "replace", killed)
        m.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(SystemExit):
            sample.write_sample(tmp_path)
    (leftover,) = state(tmp_path)
    assert Path(leftover).name.startswith(".")
    sample.write_sample(tmp_path)
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == sorted(p.name for p in folders[0].iterdir())


def test_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "taken").write_text("")
    for root in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(InputError, match=r"^cannot write .*taken.*, or choose another folder$"):
            sample.write_sample(root)
    (tmp_path / "images").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*images"):
        sample.write_sample(tmp_path)


def test_picture_missing_from_scikit_image(tmp_path, package):
    with pytest.raises(InputError, match=r"no .*astronaut\.png; pip install"):
        sample.write_sample(tmp_path / "out")
    assert state(tmp_path / "out") == {}


def test_no_scikit_image(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install scikit-image"):
        sample.write_sample(tmp_path)


def test_import_finds_the_module_and_not_the_folder_and_stays_light():
    code = "import data.sample as s, sys; print(s.__file__, 'torch' in sys.modules, 'skimage' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.rsplit(maxsplit=2) == [str(ROOT / "data" / "sample.py"), "False", "False"]
