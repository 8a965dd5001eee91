"""run_slic.py as a person uses it: after run_sample.py, on a folder of its own, and on bad input."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import run_sample
import run_slic
from misc.run.passes import run_passes

FAST = ["--cam_network", "efficientnet_lite0", "--cam_scales", "1", "--device", "cpu", "--quiet"]
FAST += ["--make_slic_pass", "False", "--make_sal_pass", "False"]


def sample(*argv):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse([*FAST, *map(str, argv)]))


def run(*argv):
    return run_passes(run_slic.PASSES, lambda: run_slic.parse(["--quiet", *map(str, argv)]))


@pytest.fixture
def folder(tmp_path, photographs):
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name, picture in vars(photographs).items():
        small = Image.fromarray(picture).resize((96, 72))
        small.save(root / "images" / f"{name}.jpg")
        Image.fromarray((np.asarray(small.convert("L")) > 120) * np.uint8(255)).save(root / "masks" / f"{name}.png")
    return root


def test_after_run_sample_no_flag_is_needed(folder, tmp_path, capsys):
    result = tmp_path / "r"
    assert sample("--sal_dataset_dir", folder, "--result_dir", result, "--limit", 3) == 0
    assert run("--result_dir", result) == 0
    assert sorted(p.stem for p in (result / "cam_slic").iterdir()) == ["astronaut", "cat", "coffee"]
    assert set(json.loads((result / "metrics.json").read_text())) == {"cam", "cam_pamr", "cam_slic"}
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (result / "cam_slic").iterdir()}
    capsys.readouterr()
    assert run("--result_dir", result) == 0
    assert "0 labels made" in capsys.readouterr().out
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (result / "cam_slic").iterdir()}
    assert run("--result_dir", result, "--slic_recipe", "published") == 0
    assert "3 labels made" in capsys.readouterr().out
    args = json.loads((result / "args.json").read_text())["args"]
    assert args["cam_network"] == "efficientnet_lite0"  # still those of run_sample.py


def test_lost_or_odd_settings_stop_it_with_one_line(folder, tmp_path, capsys):
    result = tmp_path / "r"
    assert run("--result_dir", result) == 2
    assert "run run_sample.py first, or give --img_root and --prob_root" in (err := capsys.readouterr().err)
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sample("--sal_dataset_dir", folder, "--result_dir", result, "--limit", 2) == 0
    record = result / "settings" / "cam.json"
    held = json.loads(record.read_text())
    for text in ("", "[]", "{", json.dumps({**held, "settings": 1}), json.dumps({**held, "settings": {}})):
        record.write_text(text)
        assert run("--result_dir", result) == 2, text
        assert str(record) in (err := capsys.readouterr().err) and err.count("\n") == 1
    record.write_text(json.dumps(held))
    assert run("--result_dir", result, "--img_root", tmp_path) == 2  # other images than those of the maps
    assert str(folder) in (err := capsys.readouterr().err) and str(tmp_path) in err
    assert run("--result_dir", result) == 0
    assert json.loads((result / "settings" / "cam_slic.json").read_text())["pass"] == "make_slic"


def test_it_labels_what_run_sample_labelled_last_also_where_all_was_kept(folder, tmp_path):
    """Two folders by turns in one result folder: the record says which images the last run was of."""
    result, other = tmp_path / "r", tmp_path / "other"
    other.mkdir()
    Image.open(folder / "images" / "cat.jpg").rotate(90, expand=True).save(other / "another.jpg")
    for images in (folder, other, folder):
        assert sample("--sal_dataset_dir", images, "--result_dir", result) == 0
    assert run("--result_dir", result) == 0
    assert len(list((result / "cam_slic").iterdir())) == 4 and not (result / "cam_slic" / "another.png").exists()
    held = json.loads((result / "settings" / "cam_slic.json").read_text())["settings"]
    assert (result / held["img_root"]).resolve() == folder.resolve() and held["prob_root"] == "cam"
    assert sample("--sal_dataset_dir", folder, "--result_dir", result, "--limit", 1) == 0
    assert run("--result_dir", result, "--overwrite") == 0
    assert json.loads((result / "settings" / "cam_slic.json").read_text())["settings"]["limit"] == 1


def test_results_of_before_there_were_records(folder, tmp_path, capsys):
    result = tmp_path / "r"
    assert sample("--sal_dataset_dir", folder, "--result_dir", result) == 0
    (result / "settings" / "cam.json").unlink()
    assert run("--result_dir", result) == 2 and "--img_root" in capsys.readouterr().err
    assert run("--result_dir", result, "--img_root", folder) == 0
    assert len(list((result / "cam_slic").iterdir())) == 4
    assert "cam_slic" in (metrics := json.loads((result / "metrics.json").read_text())) and "cam" in metrics


def test_quarter_size_maps_of_published_code(folder, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for path in (folder / "images").iterdir():
        Image.open(path).convert("L").resize((24, 18)).save(maps / f"{path.stem}.png")
    out = tmp_path / "out"
    argv = ("--img_root", folder, "--prob_root", maps, "--output_root", out, "--result_dir", tmp_path / "r")
    assert run(*argv, "--num_workers", 2) == 0
    assert {Image.open(p).size for p in out.iterdir()} == {(96, 72)} and len(list(out.iterdir())) == 4


def test_partners_that_are_missing_broken_or_of_another_size(folder, tmp_path):
    maps, result = tmp_path / "maps", tmp_path / "r"
    maps.mkdir()
    for stem in ("astronaut", "cat", "coffee"):
        Image.open(folder / "images" / f"{stem}.jpg").convert("L").save(maps / f"{stem}.png")
    Image.open(maps / "cat.png").resize((20, 60)).save(maps / "cat.png")
    (maps / "coffee.png").write_bytes((maps / "coffee.png").read_bytes()[:200])
    (folder / "images" / "broken.jpg").write_bytes(b"x")
    argv = ("--img_root", folder, "--prob_root", maps, "--result_dir", result, "--eval_pass", "False")
    assert run(*argv) == 1
    with (result / "failed.csv").open(encoding="utf-8", newline="") as f:
        reasons = {row["file"].rsplit("/")[-1]: row["reason"] for row in csv.DictReader(f)}
    assert set(reasons) == {"rocket.jpg", "cat.jpg", "coffee.jpg", "broken.jpg"}
    assert "missing" in reasons["rocket.jpg"] and "not of one shape" in reasons["cat.jpg"]
    assert "coffee.png cannot be read" in reasons["coffee.jpg"]
    assert [p.name for p in (result / "cam_slic").iterdir()] == ["astronaut.png"]


def test_no_images_and_no_maps(tmp_path, capsys):
    assert run("--img_root", tmp_path / "none", "--result_dir", tmp_path / "r") == 2
    assert "--img_root" in (err := capsys.readouterr().err) and err.count("\n") == 1
    assert run("--slic_recipe", "mine") == 2
    assert "--slic_recipe mine: give one of default, published, mfnet_stage2" in capsys.readouterr().err
