"""run_sample.py as a person uses it: whole runs on real pictures, killed runs, and bad input of every kind."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run_sample
from misc.run.passes import run_passes

ROOT = Path(__file__).resolve().parent.parent
FAST = ["--cam_network", "efficientnet_lite0", "--cam_scales", "1", "0.5", "--device", "cpu", "--quiet"]
FAST += ["--make_slic_pass", "False", "--make_sal_pass", "False"]


def run(*argv):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse([*FAST, *map(str, argv)]))


def subprocess_run(*argv, **kwargs):
    command = [sys.executable, str(ROOT / "run_sample.py"), *FAST, *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **kwargs)


def failed(result):
    with (result / "failed.csv").open(encoding="utf-8", newline="") as f:
        return {(row["step"], Path(row["file"]).name): row["reason"] for row in csv.DictReader(f)}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


@pytest.fixture
def folder(tmp_path, photographs):
    """Four small photographs, with masks of two of them."""
    root = tmp_path / "set"
    (root / "images" / "sub").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, picture in vars(photographs).items():
        small = Image.fromarray(picture).resize((96, 72))
        small.save(root / "images" / ("sub" if name == "rocket" else "") / f"{name}.png")
        Image.fromarray((np.asarray(small.convert("L")) > 120) * np.uint8(255)).save(root / "masks" / f"{name}.png")
    return root


def test_a_whole_run(folder, tmp_path, capsys):
    result = tmp_path / "result"
    assert (
        run("--sal_dataset_dir", folder, "--result_dir", result, "--make_slic_pass", "True", "--make_sal_pass", "True")
        == 0
    )
    for kind in ("cam", "cam_pamr", "cam_slic", "sal"):
        files = sorted((result / kind).rglob("*.png"))
        names = [p.relative_to(result / kind).as_posix() for p in files]
        assert names == ["astronaut.png", "cat.png", "coffee.png", "sub/rocket.png"]
        for path in files:
            gray = np.asarray(Image.open(path))
            assert gray.shape == (72, 96) and gray.dtype == np.uint8 and gray.max() >= 200 and len(np.unique(gray)) > 20
    metrics = json.loads((result / "metrics.json").read_text())
    columns = {"n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure"}
    assert {kind: set(row) for kind, row in metrics.items()} == dict.fromkeys(metrics, columns)
    assert (
        set(metrics) == {"cam", "cam_pamr", "cam_slic", "sal"}
        and metrics["cam"]["n"] == 4
        and 0 < metrics["cam"]["mae"] < 1
    )
    assert Image.open(result / "overview.png").size[0] > 4 * 96
    args = json.loads((result / "args.json").read_text())
    assert args["args"]["cam_scales"] == [1.0, 0.5] and "torch" in args["versions"]
    assert not (result / "failed.csv").exists()
    out = capsys.readouterr().out
    assert "4 maps made" in out and "cam_pamr" in out


def test_two_runs_give_the_same_bytes_and_a_second_run_does_nothing(folder, tmp_path, capsys):
    for name in ("a", "b"):
        assert run("--sal_dataset_dir", folder, "--result_dir", tmp_path / name) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "cam").rglob("*.png")}
    capsys.readouterr()
    assert run("--sal_dataset_dir", folder, "--result_dir", tmp_path / "a") == 0
    assert "0 maps made" in (out := capsys.readouterr().out) and "0 labels made" in out
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "a" / "cam").rglob("*.png")}
    assert run("--sal_dataset_dir", folder, "--result_dir", tmp_path / "a", "--overwrite") == 0
    assert "4 maps made" in capsys.readouterr().out
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_files_of_other_settings_or_another_picture_are_made_anew(folder, tmp_path, capsys):
    result = tmp_path / "result"
    assert run("--sal_dataset_dir", folder, "--result_dir", result) == 0
    first = contents(result / "cam")
    Image.open(folder / "images" / "coffee.png").rotate(180).save(folder / "images" / "cat.png")
    capsys.readouterr()
    assert run("--sal_dataset_dir", folder, "--result_dir", result) == 0
    assert "1 maps made" in (out := capsys.readouterr().out) and "1 labels made" in out
    assert {p.stem for p, data in contents(result / "cam").items() if data != first[p]} == {"cat"}
    assert run("--sal_dataset_dir", folder, "--result_dir", result, "--cam_scales", "1") == 0
    assert "4 maps made" in (out := capsys.readouterr().out) and "4 labels made" in out


def test_a_pass_that_is_off_lends_its_settings_and_contradictions_stop_the_run(folder, tmp_path, capsys):
    result, other = tmp_path / "result", tmp_path / "other"
    assert run(folder, "--result_dir", result, "--limit", "3", "--cam_scales", "1") == 0
    held = json.loads((result / "settings" / "cam.json").read_text())
    assert held["network"] == "efficientnet_lite0" and len(held["sha256"]) == 64 and held["folder"] == "cam"
    assert held["settings"]["limit"] == 3 and held["changed"]["cam_scales"]["is"] == [1.0]
    before = (result / "settings" / "cam.json").read_bytes()
    capsys.readouterr()
    flags = ["--device", "cpu", "--quiet", "--result_dir", str(result), "--make_cam_pass", "False"]
    assert run_passes(run_sample.PASSES, lambda: run_sample.parse(flags)) == 0  # not the sample pictures: those of cam
    assert "make_label: 0 labels made, 3 kept" in capsys.readouterr().out
    other.mkdir()
    for contradiction, made_with in ((["--cam_scales", "2"], "[1.0]"), (["--limit", "4"], "3"), ([str(other)], "set")):
        assert run_passes(run_sample.PASSES, lambda c=contradiction: run_sample.parse([*flags, *c])) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and made_with in error and contradiction[-1].strip("[]") in error
    assert run_passes(run_sample.PASSES, lambda: run_sample.parse([*flags, "--limit", "2"])) == 0
    assert (result / "settings" / "cam.json").read_bytes() == before  # written only with results


def test_one_picture(folder, tmp_path):
    assert run(folder / "images" / "cat.png", "--result_dir", tmp_path / "r") == 0
    assert [p.name for p in (tmp_path / "r" / "cam_pamr").iterdir()] == ["cat.png"]
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    folders = [tmp_path / "r" / found for found in re.findall(r'"([^"]*images)/?"', page)]  # of the photograph
    assert any((found / "cat.png").is_file() for found in folders) and "cat.png/" not in page


def test_a_label_without_crf_is_read_by_what_follows(folder, tmp_path):
    result = tmp_path / "r"
    assert run(folder, "--result_dir", result, "--label_crf", "False") == 0
    off = ("--make_cam_pass", "False", "--make_label_pass", "False")
    assert run("--result_dir", result, *off, "--export", "masks") == 0
    assert len(list((result / "export").rglob("*.png"))) == 4


def test_batches_of_one_size_give_the_maps_of_single_images(folder, tmp_path):
    Image.open(folder / "images" / "cat.png").resize((80, 72)).save(folder / "images" / "other_size.png")
    for size in (1, 3):
        out = tmp_path / str(size)
        off = ("--make_label_pass", "False", "--eval_pass", "False")
        assert run("--sal_dataset_dir", folder, "--result_dir", out, "--cam_infer_batch_size", size, *off) == 0
    for path in (tmp_path / "1" / "cam").rglob("*.png"):
        other = tmp_path / "3" / path.relative_to(tmp_path / "1")
        one, three = (np.asarray(Image.open(p)).astype(int) for p in (path, other))
        assert np.abs(one - three).max() <= 1


def test_label_binary(folder, tmp_path):
    assert run("--sal_dataset_dir", folder, "--result_dir", tmp_path / "r", "--label_binary", "0.97") == 0
    labels = (np.asarray(Image.open(p)) for p in (tmp_path / "r" / "cam_pamr").rglob("*.png"))
    assert {v for label in labels for v in np.unique(label)} == {0, 255}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_a_killed_run_continues_and_gives_the_same_files(folder, tmp_path):
    for i in range(8):
        Image.open(folder / "images" / "cat.png").rotate(10 * i).resize((192, 160)).save(
            folder / "images" / f"x{i}.png"
        )
    assert run("--sal_dataset_dir", folder, "--result_dir", tmp_path / "whole") == 1  # x0..x7 have no masks
    killed = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "run_sample.py"), *FAST, "--sal_dataset_dir", folder, "--result_dir", killed]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while not list((killed / "cam").glob("*.png")) and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = {p: p.stat().st_mtime_ns for p in (killed / "cam").glob("*.png")}
    assert 1 <= len(made) < 12
    assert run("--sal_dataset_dir", folder, "--result_dir", killed) == 1
    assert contents(tmp_path / "whole") == contents(killed)
    assert all(p.stat().st_mtime_ns == t for p, t in made.items())
    assert not list(killed.rglob("*.part"))


def test_strange_pictures_are_labelled_and_broken_ones_listed(tmp_path, photographs):
    root = tmp_path / "in"
    root.mkdir()
    cat = Image.fromarray(photographs.cat[:64, :96])
    cat.convert("L").save(root / "gray.jpg")
    cat.convert("CMYK").save(root / "cmyk.JPEG")
    Image.fromarray(np.asarray(cat.convert("L")).astype(np.uint16) * 257).save(root / "sixteen bit.png")
    cat.convert("RGBA").save(root / "älpha.webp")
    cat.crop((10, 0, 11, 64)).save(root / "narrow.bmp")
    cat.crop((0, 10, 96, 11)).save(root / "low.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    cat.save(root / "turned.jpg", exif=exif)
    cat.save(root / "whole.jpg")
    (root / "cut.jpg").write_bytes((root / "whole.jpg").read_bytes()[:-500])
    (root / "fake.png").write_bytes(b"no picture")
    assert run("--sal_dataset_dir", root, "--result_dir", tmp_path / "r") == 1
    assert set(failed(tmp_path / "r")) == {("make_cam", "cut.jpg"), ("make_cam", "fake.png")}
    for kind in ("cam", "cam_pamr"):
        sizes = {p.stem: Image.open(p).size for p in (tmp_path / "r" / kind).iterdir()}
        assert sizes == {
            **dict.fromkeys(("gray", "cmyk", "sixteen bit", "älpha", "whole"), (96, 64)),
            "narrow": (1, 64),
            "low": (96, 1),
            "turned": (64, 96),
        }
    (root / "cut.jpg").unlink()
    (root / "fake.png").unlink()
    assert run("--sal_dataset_dir", root, "--result_dir", tmp_path / "r") == 0
    assert not (tmp_path / "r" / "failed.csv").exists()


def test_max_side_bounds_inference_and_maps_keep_the_size(tmp_path, photographs):
    root = tmp_path / "in"
    root.mkdir()
    Image.fromarray(photographs.coffee).resize((2400, 1600)).save(root / "large.jpg")
    assert run("--sal_dataset_dir", root, "--result_dir", tmp_path / "r", "--max_side", "128") == 0
    for kind in ("cam", "cam_pamr"):
        assert Image.open(tmp_path / "r" / kind / "large.png").size == (2400, 1600)


def test_missing_maps_and_masks_are_listed(folder, tmp_path):
    result = tmp_path / "r"
    assert run("--sal_dataset_dir", folder, "--result_dir", result) == 0
    (result / "cam" / "cat.png").unlink()
    Image.open(result / "cam" / "coffee.png").resize((10, 10)).save(result / "cam" / "coffee.png")
    (folder / "masks" / "rocket.png").unlink()
    Image.open(folder / "masks" / "astronaut.png").resize((5, 5)).save(folder / "masks" / "astronaut.png")
    assert run("--sal_dataset_dir", folder, "--result_dir", result, "--make_cam_pass", "False") == 1
    reasons = failed(result)
    assert set(reasons) == {
        ("make_label", "cat.png"),
        ("make_label", "coffee.png"),
        ("eval", "rocket.png"),
        ("eval", "astronaut.png"),
    }
    assert "missing" in reasons["make_label", "cat.png"] and "10 x 10" in reasons["make_label", "coffee.png"]
    assert json.loads((result / "metrics.json").read_text())["cam"]["n"] == 0


def test_labels_of_older_maps_are_not_scored(folder, tmp_path, capsys):
    result = tmp_path / "r"
    assert run("--sal_dataset_dir", folder, "--result_dir", result) == 0
    off = ("--make_label_pass", "False")
    assert run("--sal_dataset_dir", folder, "--result_dir", result, "--cam_scales", "1", *off) == 0
    assert "cam_pamr is of other maps" in capsys.readouterr().out
    assert set(json.loads((result / "metrics.json").read_text())) == {"cam"}


def test_unusable_input_is_one_line_and_nothing_is_written(tmp_path, photographs):
    root, result = tmp_path / "in", tmp_path / "result"
    (root / "sub").mkdir(parents=True)
    cases = {
        ("--sal_dataset_dir", root): "no picture in it",
        ("--sal_dataset_dir", tmp_path / "none"): "no such folder",
    }
    Image.fromarray(photographs.cat[:40, :40]).save(tmp_path / "one.png")
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"x")
    one = tmp_path / "one"
    one.mkdir()
    (tmp_path / "one.png").rename(one / "one.png")
    cases |= {
        ("--sal_dataset_dir", one, "--cam_weights_dir", weights): "w.pth holds more than plain weights, or is damaged",
        ("--sal_dataset_dir", one, "--device", "nonsense"): "--device nonsense: not usable here",
        ("--sal_dataset_dir", one, "--mask_dir", tmp_path / "none", "--make_cam_pass", "False"): "--mask_dir",
    }
    twins = tmp_path / "twins"
    twins.mkdir()
    for name in ("a.png", "a.jpg", "b.jpg"):
        Image.fromarray(photographs.cat[:40, :40]).save(twins / name)
    cases[("--sal_dataset_dir", twins)] = "have one name"
    for argv, message in cases.items():
        done = subprocess_run("--result_dir", result, *argv, "--make_label_pass", "False")
        assert done.returncode == 2, done
        assert message in done.stderr and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
        assert not list(result.rglob("*.png"))
    (tmp_path / "file").touch()
    done = subprocess_run("--result_dir", tmp_path / "file", "--sal_dataset_dir", one)
    assert done.returncode == 2 and "cannot write" in done.stderr
