"""The saliency evaluator as a command, on real masks."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.files.images import read_gray, read_mask
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import SaliencyMetrics
from step.eval import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folders(tmp_path, photographs):
    """Two folders of predictions, one of masks."""
    for name, picture in vars(photographs).items():
        gray = Image.fromarray(picture).convert("L").resize((48, 36))
        for folder, image in (
            ("a", gray),
            ("b", gray.transpose(Image.Transpose.ROTATE_180)),
            ("m", gray.point(lambda v: 255 * (v > 120))),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            image.save(tmp_path / folder / f"{name}.png")
    return tmp_path


def run(*argv):
    return main(["--quiet", *map(str, argv)])


def test_folders_side_by_side(folders, tmp_path, capsys):
    out, per_image = tmp_path / "o" / "m.json", tmp_path / "o" / "i.csv"
    argv = ("--pred_dir", folders / "a", folders / "b", "--mask_dir", folders / "m")
    assert run(*argv, "--out", out, "--per_image", per_image) == 0
    results = json.loads(out.read_text())
    with per_image.open() as f:
        rows = list(csv.DictReader(f))
    text = capsys.readouterr().out
    for name in "ab":
        metrics = SaliencyMetrics()
        for path in sorted((folders / "m").iterdir()):
            metrics.step(read_gray(folders / name / path.name), read_mask(path))
        expected = metrics.get_results()
        row = results[str(folders / name)]
        for key in ("mae", "adp_f", "mean_f", "max_f", "weighted_f", "s_measure", "adp_e", "mean_e", "max_e"):
            assert row[key] == pytest.approx(expected[key], abs=1e-6)
        assert row["curves_at_255_to_0"]["recall"] == pytest.approx(expected["recall"].tolist(), abs=1e-6)
        mine = [float(r["mae"]) for r in rows if r["pred_dir"] == str(folders / name)]
        assert row["n"] == len(mine) == 4 and np.mean(mine) == pytest.approx(expected["mae"], abs=1e-6)
        assert f"{expected['s_measure']:.3f}" in text
    assert results[str(folders / "a")]["mae"] < results[str(folders / "b")]["mae"]


def test_missing_and_wrong_sized_predictions(folders, tmp_path, capsys):
    argv = ("--pred_dir", folders / "a", "--mask_dir", folders / "m", "--out", tmp_path / "m.json")
    (folders / "a" / "cat.png").unlink()
    assert run(*argv) == 2
    assert "a/cat: prediction is missing (1 of 4 are)" in (err := capsys.readouterr().err) and err.count("\n") == 1
    Image.new("L", (5, 5)).save(folders / "a" / "cat.png")
    assert run(*argv) == 2
    assert "cat.png: is (5, 5)" in capsys.readouterr().err
    (folders / "a" / "cat.png").write_bytes(b"no picture")
    assert run(*argv) == 2
    assert "cat.png" in capsys.readouterr().err
    assert not (tmp_path / "m.json").exists()
    assert run(*argv, "--allow_missing") == 0
    assert "1 prediction(s) left out" in capsys.readouterr().err
    assert json.loads((tmp_path / "m.json").read_text())[str(folders / "a")]["n"] == 3


def test_a_list_chooses_images(folders, tmp_path):
    (folders / "a" / "cat.png").unlink()
    names = tmp_path / "list.txt"
    names.write_text("coffee\nrocket.jpg\n")
    argv = ("--pred_dir", folders / "a", "--mask_dir", folders / "m", "--list", names, "--out", tmp_path / "m.json")
    assert run(*argv) == 0
    assert json.loads((tmp_path / "m.json").read_text())[str(folders / "a")]["n"] == 2
    names.write_text("coffee\ndog\n")
    assert run(*argv) == 2


def test_boxes(folders, tmp_path, capsys):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1,orig_w,orig_h\nx/cat.jpg,20,20,80,60,96,72\ncoffee.jpg,0,0,30,30,96,72\n")
    assert run("--pred_dir", folders / "a", "--boxes", boxes, "--out", tmp_path / "m.json") == 0
    accuracy = BoxAccuracy()
    accuracy.step(read_gray(folders / "a" / "cat.png"), np.array([[10, 10, 40, 30]]))
    accuracy.step(read_gray(folders / "a" / "coffee.png"), np.array([[0, 0, 15, 15]]))
    row = json.loads((tmp_path / "m.json").read_text())[str(folders / "a")]
    assert row["n"] == 2 and row["max_box_acc"] == accuracy.get_results()["max_box_acc"]
    assert "max_box_acc" in capsys.readouterr().out
    boxes.write_text("file,x0,y0,x1,y1\ndog,1,1,2,2\n")
    assert run("--pred_dir", folders / "a", "--boxes", boxes) == 2
    assert run("--pred_dir", folders / "a", "--boxes", boxes, "--allow_missing") == 2
    assert "no map of it has a box" in capsys.readouterr().err


def test_boxes_of_imagenette_on_maps_of_the_pictures_middle(shared, tmp_path, capsys):
    """Most of ImageNet's objects lie in the middle: a blob there finds more than half of them."""
    path = shared("data", "imagenette", "val_boxes.csv")
    y, x = np.mgrid[-1:1:112j, -1:1:112j]
    blob = Image.fromarray((255 * np.clip(1.2 - np.hypot(x, y), 0, 1)).astype(np.uint8))
    (tmp_path / "p").mkdir()
    for stem in {line.split(",")[0].split("/")[-1].split(".")[0] for line in path.read_text().splitlines()[1:200]}:
        blob.save(tmp_path / "p" / f"{stem}.png")
    assert run("--pred_dir", tmp_path / "p", "--boxes", path, "--allow_missing", "--out", tmp_path / "m.json") == 0
    assert 0.4 < json.loads((tmp_path / "m.json").read_text())[str(tmp_path / "p")]["max_box_acc"] < 0.95


def test_unusable_input(folders, tmp_path, capsys):
    for argv, message in (
        (("--pred_dir", folders / "a"), "nothing to compare with"),
        (("--pred_dir", folders / "none", "--mask_dir", folders / "m"), "no such folder"),
        (("--pred_dir", folders / "a", "--mask_dir", folders / "none"), "no such folder"),
        (("--pred_dir", folders / "a", "--boxes", folders / "none"), "cannot be read"),
    ):
        assert run(*argv) == 2
        assert message in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_it_is_a_command_and_workers_change_nothing(folders, tmp_path):
    for i in range(32):  # enough for two workers
        for name in "am":
            Image.open(folders / name / "cat.png").rotate(10 * i).save(folders / name / f"x{i}.png")
    outs = []
    for n in ("1", "2"):
        out = tmp_path / f"{n}.json"
        argv = ["--pred_dir", folders / "a", "--mask_dir", folders / "m", "--out", out, "--num_workers", n]
        command = [sys.executable, "-m", "step.eval", *map(str, argv)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]
