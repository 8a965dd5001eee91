"""The segmentation evaluator and the exporter as commands, on real VOC masks."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import run_sample
from data.datasets import DATASETS
from misc.report.kinds import EXPORT_FORMATS
from misc.run.failures import Failures
from pgt.metrics.segmentation import Confusion, ContourF
from step import export
from step.eval_sem_seg import main

ROOT = Path(__file__).resolve().parents[2]
C = DATASETS["voc12"].num_classes


@pytest.fixture
def voc(shared):
    return shared("data", "VOCdevkit", "VOC2012")


def moved(mask):
    matrix = np.float32([[1, 0.02, 4], [0.01, 1, -3]])
    return cv2.warpAffine(np.where(mask == 255, 0, mask), matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)


@pytest.fixture
def masks(voc):
    names = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    return {name: np.asarray(Image.open(voc / "SegmentationClass" / f"{name}.png")) for name in names}


@pytest.fixture
def preds(masks, tmp_path):
    """Label maps, and the same as CAMs: 0.37 where a class is, 0.12 elsewhere; as .npz and as pickles."""
    for kind in ("labels", "npz", "npy"):
        (tmp_path / kind).mkdir()
    for name, mask in masks.items():
        label = moved(mask)
        Image.fromarray(label).save(tmp_path / "labels" / f"{name}.png")
        keys = [k for k in np.unique(label) if k]
        scores = np.array([np.where(label == k, 0.37, 0.12) for k in keys], np.float32)
        np.savez_compressed(tmp_path / "npz" / f"{name}.npz", keys=np.array(keys) - 1, cam=scores)
        np.save(tmp_path / "npy" / f"{name}.npy", dict(zip((k - 1 for k in keys), scores, strict=True)))
    return tmp_path


def run(*argv):
    return main(["--quiet", "--dataset", "voc12", *map(str, argv)])


def test_labels_and_cams_side_by_side(voc, masks, preds, tmp_path, capsys):
    folders = [preds / kind for kind in ("labels", "npz", "npy")]
    out, per_image = tmp_path / "m.json", tmp_path / "i.csv"
    argv = ("--pred_dir", *folders, "--data_dir", voc, "--split", "val", "--out", out, "--per_image", per_image)
    assert run(*argv) == 0
    confusion, left_out, published = Confusion(C), ContourF(C), ContourF(C, void="background")
    for mask in masks.values():
        for metric in (confusion, left_out, published):
            metric.step(moved(mask), mask)
    expected = confusion.get_results()
    rows = json.loads(out.read_text())
    for folder in folders:
        row = rows[str(folder)]
        assert row["n"] == len(masks) == 10
        for key in ("miou", "miou_absent_0", "pixel_accuracy"):
            assert row[key] == pytest.approx(expected[key], abs=1e-6)
        iou = [np.nan if v is None else v for v in row["iou"].values()]
        np.testing.assert_allclose(iou, expected["iou"], atol=1e-6)
        assert list(row["iou"]) == list(DATASETS["voc12"].names)
        assert row["absent"] == [name for name, v in row["iou"].items() if v is None] != []
        for form, contours in (("void_left_out", left_out), ("void_as_background", published)):
            for key in ("mean_f", "mean_f_absent_1"):
                assert row["contour"][form][key] == pytest.approx(contours.get_results()[key], abs=1e-6)
    sweep = rows[str(folders[1])]["threshold_sweep"]
    assert sweep["best_threshold"] == 0.12 and len(sweep["miou"]) == 60 and sweep["thresholds"][-1] == 0.59
    assert sweep["miou_absent_0"][12] == rows[str(folders[0])]["miou_absent_0"] and sweep["miou"][40] < 0.2
    assert rows[str(folders[1])] == rows[str(folders[2])] and "threshold_sweep" not in rows[str(folders[0])]
    with per_image.open() as f:
        scores = [r for r in csv.DictReader(f) if r["pred_dir"] == str(folders[0])]
    for r in scores:
        one = Confusion(C)
        one.step(moved(masks[r["image"]]), masks[r["image"]])
        assert float(r["miou"]) == pytest.approx(one.get_results()["miou"], abs=1e-6)
    text = capsys.readouterr().out
    assert "absent" in text and f"{expected['miou']:.3f}" in text and "aeroplane" in text


def test_crf_maps_keep_their_background(masks, tmp_path, voc):
    for name, mask in masks.items():
        label = moved(mask)
        np.save(tmp_path / f"{name}.npy", {k: np.float32(label == k) for k in np.unique(label)})
    argv = ("--pred_dir", tmp_path, "--data_dir", voc, "--out", tmp_path / "m.json")
    assert run(*argv, "--keys", "label") == 0
    row = json.loads((tmp_path / "m.json").read_text())[str(tmp_path)]
    confusion = Confusion(C)
    for mask in masks.values():
        confusion.step(moved(mask), mask)
    assert row["miou"] == pytest.approx(confusion.get_results()["miou"], abs=1e-6) and "threshold_sweep" not in row


def test_errors_name_the_file(voc, masks, preds, capsys):
    name, *_ = masks
    path = preds / "labels" / f"{name}.png"
    argv = ("--pred_dir", preds / "labels", "--data_dir", voc)
    whole = path.read_bytes()
    path.unlink()
    assert run(*argv) == 2
    assert f"{name}: prediction is missing (1 of 10 are)" in capsys.readouterr().err
    cases = {"is (5, 7), its mask": np.zeros((7, 5), np.uint8), "holds 21": np.full_like(masks[name], 21)}
    for message, label in cases.items():
        Image.fromarray(label).save(path)
        assert run(*argv) == 2
        assert message in (err := capsys.readouterr().err) and f"{name}.png" in err and err.count("\n") == 1
    path.write_bytes(whole[:200])
    assert run(*argv) == 2
    assert f"{name}.png" in capsys.readouterr().err
    assert run(*argv, "--allow_missing") == 0
    assert "1 prediction(s) left out" in capsys.readouterr().err
    path.unlink()
    np.savez(path.with_suffix(".npz"), keys=[1], cam=np.zeros((1, *masks[name].shape)))
    assert run(*argv) == 2
    assert "1 of 10 files are CAMs" in capsys.readouterr().err


def test_unusable_input(voc, preds, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("2007_000033\nnone\n")
    masks = voc / "SegmentationClass"
    for argv, message in (
        (("--pred_dir", preds / "labels"), "no masks"),
        (("--pred_dir", preds / "labels", "--data_dir", voc, "--split", "nope"), "--split nope"),
        (("--pred_dir", preds / "labels", "--mask_dir", masks, "--list", names), "names none"),
        (("--pred_dir", preds / "none", "--data_dir", voc), "no such folder"),
        (("--pred_dir", preds / "labels", "--mask_dir", masks, "--dataset", "voc13"), "neither voc12"),
    ):
        assert run(*argv) == 2
        assert message in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_own_classes_and_images_without_a_class(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    for folder in ("m", "p"):
        (tmp_path / folder).mkdir()
    label = np.array([[0, 1, 2, 255]], np.uint8)
    for stem in "ab":
        Image.fromarray(label).save(tmp_path / "m" / f"{stem}.png")
    np.savez(tmp_path / "p" / "a.npz", keys=[0, 1], cam=np.float32([[[0, 0.9, 0, 0]], [[0, 0, 0.9, 0]]]))
    np.save(tmp_path / "p" / "b.npy", {})
    argv = (
        "--pred_dir",
        tmp_path / "p",
        "--mask_dir",
        tmp_path / "m",
        "--dataset",
        names,
        "--out",
        tmp_path / "o.json",
    )
    assert run(*argv) == 0
    row = json.loads((tmp_path / "o.json").read_text())[str(tmp_path / "p")]
    assert row["n"] == 2 and row["iou"] == {"background": 0.5, "cat": 0.5, "dog": 0.5}


def test_it_is_a_command_and_workers_change_nothing(masks, tmp_path):
    for folder in ("m", "p"):
        (tmp_path / folder).mkdir()
    for i, mask in enumerate(list(masks.values()) * 7):
        small = mask[::4, ::4]
        Image.fromarray(small).save(tmp_path / "m" / f"{i}.png")
        Image.fromarray(moved(small)).save(tmp_path / "p" / f"{i}.png")
    outs = []
    for n in ("1", "2"):
        argv = ["--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", "voc12", "--num_workers", n]
        out = tmp_path / f"{n}.json"
        command = [sys.executable, "-m", "step.eval_sem_seg", *map(str, argv), "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outs.append(out.read_bytes())
    assert outs[0] == outs[1]


# step.export


def export_run(*argv):
    return export.main(["--quiet", *map(str, argv)])


def test_exports_of_label_maps_and_cams_are_one(voc, masks, preds, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for name, mask in masks.items():
        Image.new("RGB", mask.shape[::-1]).save(images / f"{name}.jpg")
    for fmt in EXPORT_FORMATS:
        written = []
        for kind in ("labels", "npz", "npy"):
            out = tmp_path / "out" / kind / fmt
            argv = ("--pred_dir", preds / kind, "--image_dir", images, "--out_dir", out, "--format", fmt)
            assert export_run(*argv, "--dataset", "voc12") == 0
            assert "10 labels" in capsys.readouterr().out
            written.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()})
        assert written[0] == written[1] == written[2] and written[0]
    held = json.loads((tmp_path / "out" / "labels" / "coco" / "instances.json").read_text())
    assert len(held["images"]) == 10 and len(held["categories"]) == C - 1
    with Image.open(tmp_path / "out" / "labels" / "voc" / "SegmentationClass" / f"{name}.png") as written:
        np.testing.assert_array_equal(np.asarray(written), moved(mask))


def test_saliency_is_exported_as_masks_and_bad_labels_are_named(tmp_path, photographs, capsys):
    for folder in ("i", "p"):
        (tmp_path / folder).mkdir()
    gray = np.asarray(Image.fromarray(photographs.cat).convert("L"))
    Image.fromarray(photographs.cat).save(tmp_path / "i" / "cat.jpg")
    Image.fromarray(gray).save(tmp_path / "p" / "cat.png")
    argv = ("--pred_dir", tmp_path / "p", "--image_dir", tmp_path / "i", "--out_dir", tmp_path / "o")
    assert export_run(*argv, "--format", "masks", "--threshold", "0.4") == 0
    found = np.asarray(Image.open(tmp_path / "o" / "cat.png"))
    np.testing.assert_array_equal(found, np.where(gray >= 102, 255, 0))
    assert export_run(*argv, "--format", "coco", "--dataset", "voc12") == 2
    assert "which is no label of voc12" in capsys.readouterr().err
    Image.fromarray(gray[:5]).save(tmp_path / "p" / "cat.png")
    assert export_run(*argv, "--format", "coco") == 2
    assert "cat.png: is (451, 5), its image" in capsys.readouterr().err
    (tmp_path / "p" / "cat.png").unlink()
    assert export_run(*argv, "--format", "coco") == 2
    assert "prediction is missing" in capsys.readouterr().err
    assert export_run(*argv, "--format", "coco", "--pred_dir", tmp_path / "none") == 2
    Image.fromarray(gray).save(tmp_path / "p" / "cat.png")
    (tmp_path / "i" / "cat.jpg").write_bytes(b"no picture")
    assert export_run(*argv, "--format", "coco") == 2
    assert "it holds text" in capsys.readouterr().err


def test_export_as_a_stage_of_a_run(tmp_path, photographs):
    for folder in ("images", "r/cam", "r/cam_pamr"):
        (tmp_path / folder).mkdir(parents=True)
    for name, picture in vars(photographs).items():
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(picture).convert("L").save(tmp_path / "r" / "cam_pamr" / f"{name}.png")
    (tmp_path / "r" / "cam_pamr" / "cat.png").unlink()
    failures = Failures(tmp_path / "r" / "failed.csv")
    flags = {"export": "masks", "num_workers": 1, "quiet": True, "result_dir": tmp_path / "r"}
    args = run_sample.TABLE.resolve({**flags, "sal_dataset_dir": tmp_path / "images"})
    args.cam_slic_out_dir = None  # as run_sample.parse sets it
    export.run(args, failures)
    written = {
        path.relative_to(tmp_path / "r" / "export").as_posix() for path in (tmp_path / "r").rglob("export/*/*/*")
    }
    assert written == {f"masks/cam_pamr/{name}.png" for name in ("astronaut", "coffee", "rocket")}
    assert failures.close() == 1
