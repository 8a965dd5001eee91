"""Sets of one's own through every pass of run_voc.py: three layouts, with and without masks and val."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run_voc
from data.toy import CLASS_NAMES, write_toy
from misc.files.predictions import read_label
from misc.run.passes import run_passes
from step import make_seg
from step.sets import open_train

CLASSES = CLASS_NAMES[:3]
FAST = ("--preset", "small", "--device", "cpu", "--quiet", "--tensorboard", "False", "--num_workers", "1")
FAST += (
    "--seam_crop_size",
    "48",
    "--seam_long_side",
    "48",
    "64",
    "--seam_batch_size",
    "2",
    "--seam_num_epoches",
    "0.1",
)
FAST += ("--cam_scales", "0.5", "--crf_num_iter", "1", "--sem_seg_crf_num_iter", "1", "--seg_crf_num_iter", "1")
FAST += ("--aff_crop_size", "48", "--aff_long_side", "48", "64", "--aff_batch_size", "2", "--aff_num_epoches", "0.1")
FAST += ("--seg_crop_size", "48", "--seg_batch_size", "2", "--seg_num_steps", "1", "--seg_scales", "0.5")
OFF = tuple(word for name in run_voc.PASSES for word in (f"--{name}", "False"))
NO_MASKS, NO_VAL = "no masks (masks/<name>.png)", "no val (a list val.txt"


def run(*argv):
    return run_passes(run_voc.PASSES, lambda: run_voc.parse([*FAST, *map(str, argv)]))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """-> (picture, mask, its class) of some toy images, whose masks hold that class alone, two of each."""
    root = write_toy(tmp_path_factory.mktemp("toy") / "toy", num_train=24, num_val=1)
    of_class = {name: [] for name in CLASSES}
    for path in sorted((root / "SegmentationClass").iterdir()):
        label = np.asarray(Image.open(path))
        for name in CLASSES:
            if (label == CLASS_NAMES.index(name) + 1).any() and len(of_class[name]) < 3:
                of_class[name].append((root / "JPEGImages" / f"{path.stem}.jpg", label, name))
                break
    assert all(len(found) == 3 for found in of_class.values())
    return of_class


def write_set(root, layout, whole, toy):
    """Two images of each class to train with; where whole, one of each in val, and masks of all."""
    images = {"train": [one for own in toy.values() for one in own[:2]]}
    images |= {"val": [own[2] for own in toy.values()]} if whole else {}
    place = {"folders": "{split}/{name}" if whole else "{name}"}.get(layout, "images")
    files = {split: [] for split in images}
    for split, some in images.items():
        for picture, label, name in some:
            path = root / place.format(split=split, name=name) / picture.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, path)
            files[split].append((path.relative_to(root).as_posix(), name, label))
            if whole:
                (root / "masks").mkdir(exist_ok=True)
                ids = np.where(label == CLASS_NAMES.index(name) + 1, CLASSES.index(name) + 1, 0).astype(np.uint8)
                Image.fromarray(ids).save(root / "masks" / f"{picture.stem}.png")
    {"folders": lambda *_: None, "csv": write_csvs, "coco": write_jsons}[layout](root, files, whole)
    return {split: {Path(file).stem for file, *_ in some} for split, some in files.items()}


def write_csvs(root, files, whole):
    for split, some in files.items():
        rows = ["file,label", *(f"{file},{name}" for file, name, _ in some)]
        (root / (f"labels_{split}.csv" if whole else "labels.csv")).write_text("\n".join(rows))


def write_jsons(root, files, whole):
    """Of CVAT where there is no val: instances_default.json."""
    (root / "annotations").mkdir()
    for split, some in files.items():
        images, annotations = [], []
        for i, (file, name, label) in enumerate(some, 1):
            h, w = label.shape
            images.append({"id": i, "file_name": Path(file).name, "height": h, "width": w})
            box = {"bbox": [0, 0, w, h], "area": w * h, "segmentation": [[0, 0, w, 0, w, h]], "iscrowd": 0}
            annotations.append({"id": i, "image_id": i, "category_id": CLASSES.index(name) + 1, **box})
        held = {"images": images, "annotations": annotations}
        held["categories"] = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
        name = f"instances_{split if whole else 'default'}.json"
        (root / "annotations" / name).write_text(json.dumps(held))


def stems(folder):
    return {path.stem for path in folder.iterdir()}


def data_of(page):
    return json.loads(re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.read_text("utf-8"))[1])


@pytest.mark.parametrize("whole", [False, True], ids=["bare", "with_val_and_masks"])
@pytest.mark.parametrize("layout", ["folders", "csv", "coco"])
def test_one_command_to_the_report(layout, whole, toy, tmp_path, capsys):
    parts = write_set(tmp_path / "set", layout, whole, toy)
    result = tmp_path / "result"
    assert run("--data_dir", tmp_path / "set", "--result_dir", result) == 0
    out = capsys.readouterr().out
    before = out[: out.index("train_seam: ")]
    assert (NO_MASKS in before, NO_VAL in before) == (not whole, not whole)
    with (result / "doubtful.csv").open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    names = parts["train"] | parts.get("val", set())
    assert {row["name"] for row in rows} == names == stems(result / "cam") == stems(result / "sem_seg")
    doubts = [float(row["doubt"]) for row in rows]
    assert doubts == sorted(doubts, reverse=True) and doubts[-1] >= 0 and doubts[0] <= 1
    assert stems(result / "seg") == parts.get("val", names)
    page = data_of(result / "report.html")
    assert {image["name"] for image in page["images"]} == names
    keys = [column["key"] for column in page["columns"]]
    assert keys == ["image", "cam", "sem_seg", "seg", *(["mask"] if whole else [])]
    assert all(any(image["files"][k] for image in page["images"]) for k in range(len(keys)))
    if whole:
        scores = json.loads((result / "metrics.json").read_text())
        assert {kind: set(rows) for kind, rows in scores.items()} == {
            "cam": {"train", "val"}, "sem_seg": {"train", "val"}, "seg": {"val"}
        }  # fmt: skip
    else:
        assert not (result / "metrics.json").exists()
        for step in ("eval_cam", "eval_sem_seg", "eval_seg"):
            assert f"{step}: no masks, so there is nothing to compare with\n" in out
    assert out.rstrip().endswith(f"open {result / 'report.html'}") and "ckpt/seg.pth, cam/, sal/, crf_la/" in out


@pytest.fixture(scope="module")
def bare(toy, tmp_path_factory):
    """A set of images and classes, and the result of every pass."""
    root = tmp_path_factory.mktemp("bare")
    write_set(root / "set", "folders", False, toy)
    assert run("--data_dir", root / "set", "--result_dir", root / "result") == 0
    return root


def test_new_pictures_are_segmented_as_the_network_was_used(bare, toy, tmp_path, capsys):
    weights = bare / "result" / "ckpt" / "seg.pth"
    picture = toy[CLASSES[0]][2][0]
    command = [str(picture), "--make_seg_weights", str(weights), "--result_dir", str(tmp_path), "--quiet"]
    assert make_seg.main(command) == 0
    out = capsys.readouterr().out
    assert f"labels: 0 background, 1 {CLASSES[0]}, 2 {CLASSES[1]}" in out
    assert read_label(tmp_path / "seg" / f"{picture.stem}.png").shape == Image.open(picture).size[::-1]
    used = json.loads((tmp_path / "settings" / "seg.json").read_text())["settings"]
    assert used["seg_scales"] == [0.5] and used["seg_crf_num_iter"] == 1 and used["seg_crf_bilateral_sxy"] == 60
    assert make_seg.main([*command, "--seg_scales", "1"]) == 0  # a flag comes first
    assert json.loads((tmp_path / "settings" / "seg.json").read_text())["settings"]["seg_scales"] == [1.0]


def test_evaluations_alone_have_to_have_something_to_compare_with(bare, capsys):
    off = [f"--{name}=False" for name in run_voc.PASSES if not name.startswith("eval")]
    args = ("--data_dir", bare / "set", "--result_dir", bare / "result")
    assert run(*args, *off) == 2
    assert capsys.readouterr().err == "error: eval_cam: no masks, so there is nothing to compare with\n"
    assert run(*args, *off, "--report_pass", "True") == 0


def test_a_tree_like_vocs_needs_no_val(tmp_path, capsys):
    root = write_toy(tmp_path / "toy", num_train=4, num_val=2)
    lists = root / "ImageSets" / "Segmentation"
    (lists / "val.txt").unlink()
    passes = ("train_seam_pass", "make_cam_pass", "eval_cam_pass", "doubtful_pass", "report_pass")
    off = [f"--{name}=False" for name in run_voc.PASSES if name not in passes]
    assert run("--data_dir", root, "--result_dir", tmp_path / "r", *off) == 0
    out = capsys.readouterr().out
    assert NO_VAL in out and NO_MASKS not in out and "doubtful: no labels" in out
    assert set(json.loads((tmp_path / "r" / "metrics.json").read_text())["cam"]) == {"train"}
    shutil.rmtree(lists)  # nothing says what is train
    args = run_voc.parse(["--data_dir", str(root), "--result_dir", str(tmp_path / "r2")])
    assert len(open_train(args).images) == 6


def test_pictures_of_two_parts_that_have_one_name_stay_apart(toy, tmp_path):
    """cat/1.jpg in train and in val is what cameras and scripts make of any set."""
    for split, at in (("train", 0), ("val", 2)):
        for name in CLASSES:
            path = tmp_path / "set" / split / name / "1.jpg"
            path.parent.mkdir(parents=True)
            shutil.copy(toy[name][at][0], path)
    args = run_voc.parse(["--data_dir", str(tmp_path / "set"), "--result_dir", str(tmp_path / "r")])
    from step.sets import open_segmented

    train, val = open_segmented(args).values()
    assert set(train.images.names) == {f"{name}/1" for name in CLASSES}
    assert set(val.images.names) == {f"val/{name}/1" for name in CLASSES}


CUED = ("--bg_cue", "both", "--seam_init", "imagenet", "--seg_head", "objects", "--seg_fix_classes")
CUED += ("--sem_seg_walk", "False", "--sal_sides", "64", "--sal_crf", "False")


def test_saliency_tells_the_background_from_the_cams_to_new_pictures(toy, tmp_path, capsys):
    parts, result = write_set(tmp_path / "set", "folders", True, toy), tmp_path / "result"
    argv = ("--data_dir", tmp_path / "set", "--result_dir", result, *CUED)
    assert run(*argv) == 0
    assert "classes known from ImageNet: " in capsys.readouterr().out
    assert stems(result / "sal") == parts["train"] | parts["val"] and not (result / "ckpt" / "aff.pth").exists()
    scores = json.loads((result / "metrics.json").read_text())
    for row in scores["cam"].values():
        assert row["miou_mask_free"] == row["sweep"][round(100 * row["mask_free_threshold"])] <= row["miou"] + 1e-9
    labels = {path.name: path.read_bytes() for kind in ("sem_seg", "seg") for path in (result / kind).iterdir()}
    assert run(*argv, *OFF, "--make_sem_seg_pass", "True", "--make_seg_pass", "True", "--bg_share", "0.9") == 0
    again = {path.name: path.read_bytes() for kind in ("sem_seg", "seg") for path in (result / kind).iterdir()}
    assert labels.keys() == again.keys() and all(labels[name] != again[name] for name in labels)

    out = tmp_path / "new"
    photos = tmp_path / "set" / "val"
    weights = ["--make_seg_weights", str(result / "ckpt" / "seg.pth"), "--result_dir", str(out), "--device", "cpu"]
    assert make_seg.main([str(photos), *weights, "--quiet"]) == 0
    for path in (result / "seg").iterdir():
        found = next((out / "seg").rglob(path.name))
        assert (read_label(found) == read_label(path)).all(), "the run's own settings, and its cue"


def test_a_cue_without_saliency(toy, tmp_path, capsys):
    write_set(tmp_path / "set", "folders", True, toy)
    argv = ("--data_dir", tmp_path / "set", "--result_dir", tmp_path / "r", "--train_seam_pass", "False")
    assert run(*argv, "--make_cam_pass", "False", "--bg_cue", "both", "--sal_weights", "none") == 2
    assert "--bg_cue both needs saliency; give --sal_weights FILE or auto, or --bg_cue cam" in capsys.readouterr().err


def test_saliency_that_is_damaged_or_of_another_size(toy, tmp_path, capsys):
    parts, result = write_set(tmp_path / "set", "folders", True, toy), tmp_path / "result"
    argv = ("--data_dir", tmp_path / "set", "--result_dir", result, *CUED)
    assert run(*argv, *OFF, "--train_seam_pass", "True", "--make_cam_pass", "True", "--make_sal_pass", "True") == 0
    first, second = sorted(parts["train"])[:2]
    (path,) = (result / "sal").rglob(f"{first}.png")
    path.write_bytes(path.read_bytes()[:60])
    (path,) = (result / "sal").rglob(f"{second}.png")
    Image.fromarray(np.zeros((5, 7), np.uint8)).save(path)
    assert run(*argv, *OFF, "--make_crf_pass", "True") == 1
    with (result / "failed.csv").open(encoding="utf-8", newline="") as f:
        rows = {Path(row["file"]).stem: row["reason"] for row in csv.DictReader(f)}
    assert set(rows) == {first, second}
    assert "its saliency" in rows[first] and "cannot be read" in rows[first]
    assert "is (7, 5), the image" in rows[second]
