"""doubtful.csv of a folder of labels, by the pass as run_sample.py runs it."""

import csv

import numpy as np
import pytest
from PIL import Image

import run_sample
from misc.run.passes import run_passes


def run(root, *argv):
    passes = {"doubtful_pass": run_sample.PASSES["doubtful_pass"]}
    words = [str(root / "photos"), "--result_dir", str(root / "r"), "--quiet", *argv]
    return run_passes(passes, lambda: run_sample.parse(words))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def rows(root):
    with (root / "r" / "doubtful.csv").open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


@pytest.fixture
def root(tmp_path):
    """Three pictures with two kinds of labels, which agree, differ in part, and have nothing in common."""
    for name, shift in (("alike", 0), ("sub/apart", 10), ("near", 3)):
        save(tmp_path / "photos" / f"{name}.jpg", np.full((30, 30, 3), 99, np.uint8))
        for kind, at in (("cam_pamr", 5), ("cam_slic", 5 + shift)):
            label = np.zeros((30, 30), np.uint8)
            label[8:18, at : at + 10] = 255
            save(tmp_path / "r" / kind / f"{name}.png", label)
    return tmp_path


def test_the_most_doubtful_come_first(root, capsys):
    assert run(root) == 0
    assert [(row["name"], row["labels"]) for row in rows(root)] == [
        ("sub/apart", "1.0"), ("near", "0.4615"), ("alike", "0.0")
    ]  # fmt: skip
    assert [*rows(root)[0]] == ["name", "doubt", "labels", "unsure", "border", "share"]
    assert rows(root)[0]["doubt"] == "1.0" and rows(root)[2]["doubt"] == "0.0"
    out = capsys.readouterr().out
    assert "doubtful: 3 images, sub/apart, near, alike first, in" in out and "one kind" not in out


def test_of_one_kind_there_is_advice_on_how_to_get_another(root, capsys):
    for path in (root / "r" / "cam_slic").rglob("*.png"):
        path.unlink()
    assert run(root) == 0 and "labels" not in rows(root)[0]
    assert "one kind of label, and two tell more: run make_label, make_slic or make_sal too" in capsys.readouterr().out


def test_a_damaged_label_is_listed_and_the_rest_is_done(root, capsys):
    (root / "r" / "cam_slic" / "near.png").write_bytes(b"no picture")
    assert run(root) == 1
    assert {row["name"] for row in rows(root)} == {"alike", "sub/apart"} and "near" in capsys.readouterr().err


def test_without_labels_there_is_nothing_to_say(tmp_path, capsys):
    save(tmp_path / "photos" / "a.jpg", np.full((30, 30, 3), 99, np.uint8))
    assert run(tmp_path) == 0 and not (tmp_path / "r" / "doubtful.csv").exists()
    assert "doubtful: no labels" in capsys.readouterr().out
