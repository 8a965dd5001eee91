"""Nothing of other people, and nothing that was made, is lost: outputs over inputs, half files, two runs, downloads."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import run_sample
import run_slic
import run_voc
from data.labelled import spread
from misc.files.store import fingerprint_of, remove_parts, replacing, write_npz, write_png
from misc.run.passes import run_passes
from misc.train.loop import _same
from net.weights import load
from step import make_seg
from tests.foreign.commands import (
    FAST,
    MAPS_ALONE,
    disc,
    export_labels,
    names,
    one_error,
    photos,
    picture,
    sample,
    save,
    score,
    slic,
    voc,
    words,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def originals(tmp_path):
    """A folder of PNG photographs, and a check that it is as it was."""
    root = photos(tmp_path / "photos", "a.png", "sub/b.png")
    for path in root.rglob("*.png"):
        save(tmp_path / "maps" / path.relative_to(root), disc() * np.uint8(200))
        save(tmp_path / "masks" / path.relative_to(root), disc() * np.uint8(255))
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    yield root
    assert {p: p.read_bytes() for p in files} == files
    inside = {p for p in tmp_path.rglob("*") if p.is_file() and root in p.parents and "result" not in p.parts}
    assert inside == {p for p in files if root in p.parents}


# 16: outputs over inputs


def refused(capsys, status):
    assert status == 2
    error = one_error(capsys)
    assert "apart" in error or "of its own" in error or "a new folder" in error or "another name" in error
    return error


@pytest.mark.parametrize("below", ["", "new", "sub"])
def test_no_flag_points_into_the_folder_of_photographs(below, originals, tmp_path, capsys):
    into, apart = originals / below, ("--result_dir", tmp_path / "r")
    maps = ("--img_root", originals, "--prob_root", tmp_path / "maps")
    for flag in ("--cam_out_dir", "--cam_pamr_out_dir"):
        refused(capsys, sample(originals, *apart, flag, into))
    refused(capsys, slic(*maps, *apart, "--output_root", into))
    if below != "new":  # a new one there is left out of the search
        refused(capsys, sample(originals, "--result_dir", into))
        refused(capsys, slic(*maps, "--result_dir", into))
    argv = ("--pred_dir", tmp_path / "maps", "--image_dir", originals, "--format", "masks")
    for out in (into, tmp_path / "maps", tmp_path):
        refused(capsys, export_labels(*argv, "--out_dir", out))
    for flag in ("--out", "--per_image"):
        argv = ("--pred_dir", tmp_path / "maps", "--mask_dir", tmp_path / "masks", flag, originals / "a.png")
        refused(capsys, score(*argv))
    assert not (tmp_path / "r").exists()


def test_no_flag_points_into_what_else_is_read(originals, tmp_path, capsys):
    apart = ("--result_dir", tmp_path / "r")
    refused(capsys, sample(originals, *apart, "--mask_dir", tmp_path / "masks", "--cam_out_dir", tmp_path / "masks"))
    refused(capsys, sample(originals, "--mask_dir", tmp_path / "masks", "--result_dir", tmp_path / "masks"))
    maps = ("--img_root", originals, "--prob_root", tmp_path / "maps")
    refused(capsys, slic(*maps, *apart, "--output_root", tmp_path / "maps"))
    for flag in ("--cls_dataset_dir", "--cls_val_dir", "--cls_val_masks"):
        refused(capsys, sample(*apart, flag, originals, "--cam_out_dir", originals, "--sal_dataset_dir", tmp_path))
    for flag in ("--data_dir", "--extra_data_dir", "--seg_labels"):
        assert voc(flag, originals, "--result_dir", originals, *(("--toy",) if flag != "--data_dir" else ())) == 2
        assert "a new folder" in one_error(capsys)
    argv = words("--image_dir", originals, "--result_dir", originals)
    refused(capsys, run_passes(make_seg.PASSES, lambda: make_seg.parse(argv)))


def test_two_passes_have_two_folders(originals, tmp_path, capsys):
    apart = ("--result_dir", tmp_path / "r")
    refused(capsys, sample(originals, *apart, "--cam_out_dir", tmp_path / "x", "--cam_pamr_out_dir", tmp_path / "x"))
    refused(capsys, sample(originals, *apart, "--cam_out_dir", tmp_path / "r" / "cam_pamr"))
    assert sample(originals, *apart, *MAPS_ALONE) == 0
    refused(capsys, slic(*apart, "--output_root", tmp_path / "r" / "cam"))
    refused(capsys, slic(*apart, "--output_root", tmp_path / "r" / "cam_pamr"))


def test_results_in_the_folder_of_photographs_are_left_out(originals, tmp_path, capsys):
    result = originals / "result"
    for _ in range(2):
        assert sample(originals, "--result_dir", result) == 0
        assert names(result / "cam_pamr") == ["a", "sub/b"]
    assert "passed over: 1 folder of results" in capsys.readouterr().out
    assert slic("--result_dir", result) == 0 and names(result / "cam_slic") == ["a", "sub/b"]


@pytest.mark.parametrize("flag", ["--mask_dir", "--sal_dataset_dir", "--cam_weights_dir"])
def test_what_is_not_there_is_told_before_any_work(flag, originals, tmp_path, capsys):
    assert sample(originals, "--result_dir", tmp_path / "r", flag, tmp_path / "none") == 2
    assert flag in (error := one_error(capsys)) or "none" in error
    assert not names(tmp_path / "r")


# 17: a header is taken for the body


def test_half_a_result_is_no_result(tmp_path):
    rng = np.random.default_rng(0)
    write_png(tmp_path / "a.png", rng.integers(0, 255, (40, 50), dtype=np.uint8), "x")
    cam = rng.integers(0, 255, (3, 40, 50), dtype=np.uint8)
    write_npz(tmp_path / "a.npz", "x", cam=cam)
    for path in (tmp_path / "a.png", tmp_path / "a.npz"):
        whole = path.read_bytes()
        assert fingerprint_of(path) == "x"
        for at in rng.integers(0, len(whole), 100):
            path.write_bytes(whole[:at])
            assert fingerprint_of(path) is None
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
            if fingerprint_of(path) is not None:  # what a zip says of its members beside their bytes
                assert path.suffix == ".npz" and (np.load(path)["cam"] == cam).all()
        path.write_bytes(b"")
        assert fingerprint_of(path) is None


def test_half_a_map_is_made_anew(tmp_path):
    photos(tmp_path / "set", "a.png", "b.png")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r") == 0
    files = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.suffix in (".png", ".webp")}
    for path, data in files.items():
        path.write_bytes(data[: len(data) // 2])
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r") == 0
    assert {p: p.read_bytes() for p in files} == files


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(os, "fsync", lambda _: order.append("on the disk"))
    renamed = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *paths: (order.append("has its name"), renamed(*paths))[1])
    write_png(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    assert order == ["on the disk", "has its name"]


# 18: two runs at once, and moved results


def test_two_runs_in_one_folder_end_well(tmp_path):
    photos(tmp_path / "set", *(f"{i}.png" for i in range(12)))
    command = [sys.executable, "run_sample.py", *words(*FAST, tmp_path / "set", "--result_dir", tmp_path / "r")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    runs = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    for run in runs:
        out, _ = run.communicate(timeout=120)
        assert run.returncode == 0, out
    assert len(names(tmp_path / "r" / "cam_pamr")) == 12 and not list((tmp_path / "r").rglob("*.part"))


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    with replacing(tmp_path / "a.png") as part:
        host = part.name[1:].partition("-")[0]
        part.touch()
        alive = tmp_path / f".{host}-{os.getppid()}-0.part"
        dead, other = tmp_path / f".{host}-{done.stdout.strip()}-0.part", tmp_path / ".0a0a0a-1-0.part"
        old = tmp_path / "sub" / ".b.png.part"
        old.parent.mkdir()
        for path in (alive, dead, other, old):
            path.touch()
        os.utime(old, (time.time() - 1e6,) * 2)
    remove_parts(tmp_path)
    assert alive.exists() and other.exists() and not old.exists()
    assert dead.exists() == (os.name == "nt")


def test_a_moved_result_goes_on(tmp_path):
    (tmp_path / "w.pth").touch()
    assert _same("weights", "ckpt/seam.pth", "ckpt/seam.pth")
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "seam.pth").touch()  # a state of before held the whole path
    assert _same("weights", str(tmp_path / "ckpt" / "seam.pth"), "ckpt/seam.pth", tmp_path)
    assert _same("weights", str(tmp_path / "gone" / "w.pth"), str(tmp_path / "w.pth"))
    (tmp_path / "other.pth").touch()
    assert not _same("weights", str(tmp_path / "other.pth"), str(tmp_path / "w.pth"))
    assert not _same("weights", "None", str(tmp_path / "w.pth"))


# 19: downloads without a sum


@pytest.fixture
def server():
    """Serves bytes as a file of no kind, or without an end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.end_headers()
            while body := server.body:
                try:
                    self.wfile.write(body)
                except OSError:
                    break
                if not server.endless:
                    break

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.body, server.endless = b"", False
    server.url = f"http://127.0.0.1:{server.server_port}/w.pth"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.body = b""
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["log-in page", "half a file", "endless"])
def test_a_download_that_is_no_weights_does_not_stay(kind, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("misc.files.download.LIMIT", 1 << 20)
    whole = b"PK\x03\x04" + bytes(range(256)) * 40
    server.body = {"log-in page": b"<html>log in</html>", "half a file": whole, "endless": whole}[kind]
    server.endless = kind == "endless"
    photos(tmp_path / "set", "a.png")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", "--cam_weights_dir", server.url) == 2
    one_error(capsys)
    assert not [p for p in (tmp_path / "r" / "weights").iterdir() if p.suffix != ".lock"]


def test_whole_weights_without_a_sum_stay(server, tmp_path):
    import torch

    import net
    from net.weights import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(tmp_path / "w.pth", net.build("efficientnet_lite0", 2))
    server.body = (tmp_path / "w.pth").read_bytes()
    load(None, server.url, tmp_path / "cache")
    server.body = b"gone"
    load(None, server.url, tmp_path / "cache")


# 20: a truncated training picture


def test_a_whole_picture_in_place_of_a_broken_one_lets_the_training_go_on(tmp_path, capsys):
    for i in range(80):
        save(tmp_path / "set" / "ab"[i % 2] / f"{i:02}.png", picture(i))
    (index,) = sorted({*range(40, 80)} - {*spread(80)})[:1]  # none of the sample that is decoded first
    bad = sorted((tmp_path / "set" / "b").iterdir())[index - 40]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    argv = ("--train_cam_pass", "--make_cam_pass", "False", *MAPS_ALONE, "--cls_dataset_dir", tmp_path / "set")
    argv += ("--result_dir", tmp_path / "r", "--cam_crop_size", "32", "--cam_batch_size", "8", "--cam_num_epoches", "1")
    argv += ("--tensorboard", "False")
    assert sample(*argv) == 2
    assert bad.name in (error := one_error(capsys)) and "put a whole picture in its place" in error
    bad.write_bytes(whole)
    assert sample(*argv) == 0 and (tmp_path / "r" / "ckpt" / "cam.pth").is_file()


def test_every_flag_of_a_folder_says_whether_it_is_read_or_written():
    told = {"reads", "writes"}
    others = {"cam_weights", "seam_weights", "aff_weights", "seg_weights", "sem_seg_weights", "make_seg_weights"}
    others |= {"cls_val_boxes", "cam_init_weights"}
    for script in (run_sample, run_slic, run_voc):
        for name, place in script.TABLE.resolve({}).places.items():
            if place.kind is Path and name not in others:
                assert told & place.facts.keys(), name
