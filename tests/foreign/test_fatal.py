"""Files of other people that once ended or hung a run: each is that file's failure, and the rest is done."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import net
from misc.files.images import read_image
from misc.files.listing import list_pictures
from misc.files.store import fingerprint_of, replacing, write_png
from misc.run.failures import Failures
from net.weights import save_checkpoint
from tests.foreign.commands import (
    FAST,
    MAPS_ALONE,
    disc,
    export_labels,
    failed,
    names,
    one_error,
    photos,
    picture,
    sample,
    save,
    score,
    score_classes,
    slic,
    words,
)

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such entries")


def jpeg_with(exif):
    held = io.BytesIO()
    Image.fromarray(picture()).save(held, "JPEG", exif=exif)
    return held.getvalue()


def bad_exif(orientation=6):
    """Orientation, and an XResolution whose type says that it is not negative, which it is."""
    entries = (0x0112, 3, 1, orientation << 16), (0x011A, 5, 1, 38)
    held = b"MM\0*\0\0\0\x08\0\x02"
    for tag, kind, count, value in entries:
        held += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + count.to_bytes(4, "big") + value.to_bytes(4, "big")
    return b"Exif\0\0" + held + b"\0\0\0\0" + (-72).to_bytes(4, "big", signed=True) + b"\0\0\0\x01"


# 11: a list of exceptions around other people's parsers


def test_a_photograph_is_turned_by_its_orientation_alone(tmp_path):
    photos(tmp_path / "set", "good.png")
    (tmp_path / "set" / "odd.jpg").write_bytes(jpeg_with(bad_exif()))
    (tmp_path / "set" / "cut exif.jpg").write_bytes(jpeg_with(bad_exif()[:17]))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", "--export", "coco") == 0
    assert names(tmp_path / "r" / "cam_pamr") == ["cut exif", "good", "odd"]
    assert Image.open(tmp_path / "r" / "cam" / "odd.png").size == (48, 64)


@pytest.mark.parametrize("error", [struct.error("x"), MemoryError(), RecursionError("x"), OverflowError("x")])
def test_whatever_a_decoder_raises_is_that_files_failure(error, tmp_path, monkeypatch):
    photos(tmp_path / "set", "good.png", "bad.png")
    whole = ImageFile.ImageFile.load

    def load(image):
        if getattr(image.fp, "path", Path()).stem == "bad":
            raise error
        return whole(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 1
    assert set(failed(tmp_path / "r")) == {("make_cam", "bad.png")} and names(tmp_path / "r" / "cam") == ["good"]


def test_corrupt_masks_are_listed_and_the_overview_and_the_report_are_made(tmp_path):
    photos(tmp_path / "set" / "images", "a.png", "b.png")
    mask = save(tmp_path / "set" / "masks" / "a.png", disc() * np.uint8(255))
    (tmp_path / "set" / "masks" / "b.png").write_bytes(mask.read_bytes()[:60])
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r") == 1
    assert {step for step, _ in failed(tmp_path / "r")} == {"eval", "overview"}
    assert (tmp_path / "r" / "overview.png").is_file() and (tmp_path / "r" / "report.html").is_file()


def zip_of(name, content, method=zipfile.ZIP_DEFLATED):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.writestr(name, content)
    return held.getvalue()


def npy_header(shape, dtype="<f4"):
    held = io.BytesIO()
    np.lib.format.write_array_header_1_0(held, {"descr": dtype, "fortran_order": False, "shape": shape})
    return held.getvalue()


class Payload:
    def __reduce__(self):
        return (os.system, ("touch payload_ran",))


def laughs(depth=40):
    """Each list holds the one before it twice: 2^40 values in a few hundred bytes."""
    value = [0.0]
    for _ in range(depth):
        value = [value, value]
    return value


def pickled(value, **kwargs):
    return npy_header((), "|O") + pickle.dumps(np.array(value, object) if isinstance(value, dict) else value, **kwargs)


def memo_bomb():
    """A place 2^31 in the memo, for which pickle in C makes room."""
    return npy_header((), "|O") + b"\x80\x02N" + b"r" + (2**31 - 1).to_bytes(4, "little") + b"."


BAD_ARRAYS = {
    "no_bytes.npz": lambda: b"",
    "no_bytes.npy": lambda: b"",
    "broken.npz": lambda: zip_of("cam.npy", npy_header((2, 3)) + bytes(24))[:-20],
    "flipped.npz": lambda: zip_of("keys.npy", npy_header((64, 64)) + bytes(16384)).replace(b"\xed", b"\xee", 1),
    "bzip.npz": lambda: zip_of("cam.npy", b"x" * 100, method=zipfile.ZIP_BZIP2).replace(b"BZh", b"XXX"),
    "huge.npz": lambda: zip_of("cam.npy", npy_header((1, 40000, 50000)) + bytes(2_000_000)),
    "huge.npy": lambda: npy_header((10**6, 10**6)) + bytes(100),
    "negative.npy": lambda: npy_header((-4, 5)) + bytes(100),
    "laughs.npy": lambda: pickled({3: laughs()}),
    "payload.npy": lambda: pickled({3: Payload()}),
    "memo.npy": memo_bomb,
    "nan.npy": lambda: pickled({3: np.full((48, 64), np.nan, np.float32)}),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_corrupt_and_hostile_predictions_are_left_out(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for stem in ("good", "bad"):
        save(tmp_path / "m" / f"{stem}.png", disc() * np.uint8(1))
    save(tmp_path / "p" / "good.png", disc() * np.uint8(1))
    (tmp_path / "p" / f"bad{Path(name).suffix}").write_bytes(BAD_ARRAYS[name]())
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", "voc12")
    started = time.perf_counter()
    assert score_classes(*argv) == 2
    assert "bad.np" in one_error(capsys)
    assert score_classes(*argv, "--allow_missing") == 0
    assert "1 prediction(s) left out" in capsys.readouterr().err
    assert time.perf_counter() - started < 20 and not (tmp_path / "payload_ran").exists()


# 12: entries by name, not by type


@POSIX
@pytest.mark.parametrize("command", ["run", "eval"])
def test_entries_that_are_no_files_are_counted(command, tmp_path, capsys):
    photos(root := tmp_path / "set", "a.png", "folder.jpg/b.png", "@eaDir/a.png", "__MACOSX/a.png", "#recycle/c.png",
           "$RECYCLE.BIN/d.png")  # fmt: skip
    os.mkfifo(root / "pipe.png")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    (root / "link.png").symlink_to(root / "a.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "folder_link").symlink_to(root / "folder.jpg")
    if command == "eval":
        for name in ("a", "link", "folder.jpg/b"):
            save(tmp_path / "m" / f"{name}.png", disc() * np.uint8(255))
            save(root / f"{name}.png", disc() * np.uint8(255)) if name != "link" else None
        assert score("--pred_dir", root, "--mask_dir", tmp_path / "m") == 0
    else:
        assert sample(root, "--result_dir", tmp_path / "r") == 0
        assert names(tmp_path / "r" / "cam") == ["a", "folder.jpg/b", "link"]
    out = capsys.readouterr().out
    for kind in ("1 dangling link", "2 no regular file", "1 link to a folder", "1 folder named as a picture",
                 "1 folder @eaDir", "1 folder __MACOSX", "1 folder #recycle", "1 folder $RECYCLE.BIN"):  # fmt: skip
        assert kind in out


@POSIX
def test_one_picture_that_is_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="no regular file"):
        read_image(tmp_path / "pipe.png")


# 13: names as text


@POSIX
def test_names_as_long_as_they_can_be(tmp_path):
    photos(tmp_path / "set", "x" * 251 + ".png", "good.png", "y" * 251 + ".jpg")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r") == 1  # a thumbnail's name is longer by a letter
    assert names(tmp_path / "r" / "cam_pamr") == ["good", "x" * 251, "y" * 251]
    assert {step for step, _ in failed(tmp_path / "r")} == {"report"}


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_of_any_bytes_and_any_log(encoding, tmp_path):
    photos(tmp_path / "set", "good.png", "東.png")
    for name in (b"bad \xff\xe9.png", b"\xfe good.png"):
        content = b"no picture" if name.startswith(b"bad") else (tmp_path / "set" / "good.png").read_bytes()
        (Path(os.fsdecode(os.fsencode(tmp_path / "set") + b"/" + name))).write_bytes(content)
    save(tmp_path / "set" / "masks" / "good.png", disc() * np.uint8(255))
    command = [sys.executable, "run_sample.py", *words(*FAST, tmp_path / "set", "--result_dir", tmp_path / "r")]
    command += ["--export", "coco"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    assert b"\\udcff" in done.stderr and len(failed(tmp_path / "r")) == 1
    assert len(names(tmp_path / "r" / "cam_pamr")) == 4  # masks/good is one of them: images/ is not there
    assert len(json.loads((tmp_path / "r/export/coco/cam_pamr/instances.json").read_bytes())["images"]) == 4


# 14: declared sizes are believed


def png_of(width, height):
    """Few bytes that declare many pixels."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def test_a_picture_that_declares_more_than_it_can_have_fails_at_once(tmp_path):
    photos(tmp_path / "set", "good.png")
    (tmp_path / "set" / "bomb.png").write_bytes(png_of(60000, 60000))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 1
    assert "declares 60000 x 60000 pixels" in failed(tmp_path / "r")["make_cam", "bomb.png"]


def test_a_photograph_of_200_megapixels_is_no_attack(tmp_path):
    tile = np.tile(picture(size=(1020, 1020)), (12, 16, 1))
    path = save(tmp_path / "large.jpg", tile, quality=80)
    del tile
    assert read_image(path).shape == (12240, 16320, 3)


def test_the_class_count_of_a_checkpoint_is_not_believed(tmp_path, capsys):
    network = net.build("efficientnet_lite0", 3)
    save_checkpoint(tmp_path / "w.pth", network)
    held = torch.load(tmp_path / "w.pth", weights_only=True)
    held["facts"]["num_classes"] = 10**9
    torch.save(held, tmp_path / "w.pth")
    photos(tmp_path / "i", "a.png")
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", "--cam_weights_dir", tmp_path / "w.pth") == 2
    assert "w.pth does not fit" in one_error(capsys)


# 15: failed.csv is rewritten for each failure


def test_twenty_thousand_failures_are_appended(tmp_path):
    (tmp_path / "failed.csv").write_text("of an earlier run\n")
    failures, started = Failures(tmp_path / "failed.csv"), time.process_time()
    for i in range(20_000):
        failures.add("step", Path(f"a/{i}.png"), "is bad")
    assert time.process_time() - started < 5
    rows = (tmp_path / "failed.csv").read_text().splitlines()
    assert rows[0] == "step,file,reason" and len(rows) == 20_001 and Path("a/7.png") in failures


def test_a_listing_of_many_is_quick(tmp_path):
    for i in range(5_000):
        (tmp_path / f"{i}.png").touch()
    started = time.perf_counter()
    assert len(list_pictures(tmp_path, "--x").files) == 5_000 and time.perf_counter() - started < 2


# of exports: an orientation that cannot be read, and an image that is none


def test_an_export_reads_what_a_run_reads(tmp_path, capsys):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "odd.jpg").write_bytes(jpeg_with(bad_exif()))
    save(tmp_path / "p" / "odd.png", disc((64, 48)) * np.uint8(255))
    argv = (
        "--pred_dir",
        tmp_path / "p",
        "--image_dir",
        tmp_path / "i",
        "--out_dir",
        tmp_path / "o",
        "--format",
        "coco",
    )
    assert export_labels(*argv) == 0
    (tmp_path / "i" / "odd.jpg").write_bytes(b"<!DOCTYPE html><html>log in</html>")
    assert export_labels(*argv) == 2
    assert "its image" in (error := one_error(capsys)) and "a web page (HTML)" in error


def test_maps_that_are_cut_are_made_anew_and_maps_of_others_are_listed(tmp_path):
    photos(tmp_path / "set", "a.png", "b.png")
    for name in "ab":
        save(tmp_path / "maps" / f"{name}.png", disc() * np.uint8(200))
    (tmp_path / "maps" / "b.png").write_bytes((tmp_path / "maps" / "a.png").read_bytes()[:50])
    argv = ("--img_root", tmp_path / "set", "--prob_root", tmp_path / "maps", "--result_dir", tmp_path / "r")
    assert slic(*argv) == 1
    assert "its map" in failed(tmp_path / "r")["make_slic", "b.png"] and names(tmp_path / "r" / "cam_slic") == ["a"]
    whole = (path := tmp_path / "r" / "cam_slic" / "a.png").read_bytes()
    path.write_bytes(whole[:-100])
    assert fingerprint_of(path) is None
    assert slic(*argv) == 1 and path.read_bytes() == whole


def test_a_name_that_the_disk_does_not_take_is_that_files_failure(tmp_path):
    with pytest.raises(OSError, match="cannot write") as e:
        write_png(tmp_path / ("x" * 300 + ".png"), np.zeros((2, 2), np.uint8))
    assert not isinstance(e.value, ValueError)
    with replacing(tmp_path / ("y" * 251 + ".png")) as part:
        part.write_bytes(b"x")
    assert len(part.name) < 60
