"""Every kind of picture that a folder may hold."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.files.images import find_images, image_size, limit_side, read_gray, read_image, read_mask

RAMP = np.linspace(0, 255, 12 * 8).round().astype(np.uint8).reshape(12, 8)
RGB = np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 40)], axis=2)


def saved(tmp_path, image, name, **kwargs):
    image.save(tmp_path / name, **kwargs)
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "b.TIFF", "c.PNG"])
def test_lossless_formats(tmp_path, name):
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RGB), name)), RGB)


@pytest.mark.parametrize("name", ["a.jpg", "b.JPEG", "c.webp"])
def test_lossy_formats(tmp_path, name, photographs):
    small = photographs.cat[:64, :96]
    got = read_image(saved(tmp_path, Image.fromarray(small), name, quality=95))
    assert np.abs(got.astype(int) - small).mean() < 6


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to view
    path = saved(tmp_path, Image.fromarray(RGB), "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), np.rot90(RGB, -1))


def test_gray_palette_and_one_bit(tmp_path):
    three = np.repeat(RAMP[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RAMP), "gray.png")), three)
    np.testing.assert_array_equal(read_image(saved(tmp_path, Image.fromarray(RAMP).convert("P"), "p.png")), three)
    bits = read_image(saved(tmp_path, Image.fromarray(RAMP > 99), "bits.png"))
    np.testing.assert_array_equal(bits[..., 0], np.where(RAMP > 99, 255, 0))


def test_16_bit_and_float(tmp_path):
    sixteen = Image.fromarray(RAMP.astype(np.uint16) * 257)
    for name in ("g.png", "g.tif"):
        np.testing.assert_array_equal(read_image(saved(tmp_path, sixteen, name))[..., 1], RAMP)
    unit = Image.fromarray((RAMP / 255).astype(np.float32))
    np.testing.assert_array_equal(read_image(saved(tmp_path, unit, "unit.tif"))[..., 2], RAMP)
    dark = Image.fromarray(np.full((4, 4), 300, np.uint16))
    assert read_image(saved(tmp_path, dark, "dark.png")).max() == 1  # stays dark, is not stretched
    flat = Image.fromarray(np.full((4, 4), -3, np.float32))
    assert read_image(saved(tmp_path, flat, "flat.tif")).shape == (4, 4, 3)


def test_cmyk(tmp_path):
    red = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    got = read_image(saved(tmp_path, red, "cmyk.jpg", quality=95))
    np.testing.assert_allclose(got[8, 8], (200, 30, 30), atol=6)


def test_transparent_parts_are_white(tmp_path):
    rgba = np.dstack([RGB, np.full(RAMP.shape, 255, np.uint8)])
    rgba[:3, :, 3] = 0
    got = read_image(saved(tmp_path, Image.fromarray(rgba), "alpha.png"))
    assert (got[:3] == 255).all()
    np.testing.assert_array_equal(got[3:], RGB[3:])


def test_corrupt_truncated_and_foreign_files(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(whole, "JPEG")
    for name, content in {"cut.jpg": whole.getvalue()[:-900], "text.jpg": b"hello", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError):
            read_image(tmp_path / name)
        with pytest.raises(OSError):
            read_gray(tmp_path / name)
    nan = saved(tmp_path, Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan.tif")
    with pytest.raises(OSError, match="not finite"):
        read_image(nan)


def test_masks(tmp_path):
    want = RAMP > 128
    for name, stored in {"m": want * np.uint8(255), "ones": want.astype(np.uint8), "gray": RAMP}.items():
        np.testing.assert_array_equal(read_mask(saved(tmp_path, Image.fromarray(stored), f"{name}.png")), want)
    assert not read_mask(saved(tmp_path, Image.fromarray(RAMP * 0), "none.png")).any()


def test_find_images(tmp_path):
    for name in ("b c.JPG", "sub/ä.png", "a.webp", "notes.txt", ".hidden/x.png", "a.b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path, "--x")
    assert list(found) == ["a", "a.b", "b c", "sub/ä"]
    assert found["sub/ä"] == tmp_path / "sub" / "ä.png"


def test_find_images_refuses(tmp_path):
    with pytest.raises(InputError, match="--x .*absent: no such folder"):
        find_images(tmp_path / "absent", "--x")
    with pytest.raises(InputError, match="--x .*no picture in it"):
        find_images(tmp_path, "--x")
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/a.png"):  # two names: outputs mirror subfolders
        (tmp_path / name).touch()
    assert list(find_images(tmp_path, "--x")) == ["a", "sub/a"]
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.jpg and .*a\.png have one name"):
        find_images(tmp_path, "--x")


def test_limit_side():
    assert limit_side((6000, 8000), 1024) == (768, 1024)
    assert limit_side((300, 400), 1024) == (300, 400)
    assert limit_side((1, 9000), 1000) == (1, 1000)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_image_size_is_that_of_the_picture_as_read(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2]


def test_image_size_of_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert image_size(tmp_path / "a.jpg") == image_size(tmp_path / "absent.jpg") == (1, 1)


def test_a_large_jpeg_comes_at_part_of_its_size(tmp_path, photographs):
    large = Image.fromarray(photographs.rocket).resize((1600, 1200), Image.Resampling.BICUBIC)
    path = saved(tmp_path, large, "large.jpg", quality=95)
    shapes = {side: read_image(path, side).shape[:2] for side in (801, 800, 401, 400, 201, 200, 30, 1)}
    whole, half, quarter, eighth = ((1200 // n, 1600 // n) for n in (1, 2, 4, 8))
    assert shapes == {801: whole, 800: whole, 401: whole, 400: half, 201: half, 200: quarter, 30: eighth, 1: eighth}
    small = [cv2.resize(read_image(path, side), (200, 150), interpolation=cv2.INTER_AREA) for side in (0, 200)]
    assert np.abs(small[0].astype(int) - small[1]).mean() < 1
    assert image_size(path) == whole == read_image(path).shape[:2]
    np.testing.assert_array_equal(read_image(saved(tmp_path, large, "large.png"), 100), np.asarray(large))


def test_part_of_the_size_of_a_turned_gray_or_damaged_jpeg(tmp_path, photographs):
    exif = Image.Exif()
    exif[0x0112] = 6
    gray = Image.fromarray(photographs.cat).convert("L").resize((800, 400))
    path = saved(tmp_path, gray, "turned.jpg", exif=exif)
    turned = read_image(path, 100)
    assert turned.shape == (200, 100, 3) and image_size(path) == (800, 400)
    expected = cv2.resize(read_image(path), (100, 200), interpolation=cv2.INTER_AREA)
    assert np.abs(turned.astype(int) - expected).mean() < 2
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(OSError, match="truncated"):
        read_image(path, 100)
