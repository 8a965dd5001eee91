"""run_voc.py and run_coco.py as a person uses them, up to the class activation maps, their CRF maps and scores."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import net
import run_coco
import run_voc
from data.datasets import DATASETS
from data.toy import CLASS_NAMES, write_toy
from misc.files.images import read_image
from misc.files.predictions import read_prediction
from misc.run.passes import run_passes
from net import CAMNet, SEAMNet
from net.weights import read_checkpoint, save_checkpoint
from pgt.pamr import refine_cams
from run_voc import PASSES
from step.sets import open_all, open_eval, open_train

SPEC = DATASETS["coco14"]
ROOT = Path(__file__).resolve().parent.parent
FIRST_HALF = ("train_seam_pass", "make_cam_pass", "make_crf_pass", "eval_cam_pass", "report_pass")
FAST = [
    *("--seam_network", "efficientnet_lite0", "--seam_crop_size", "64", "--seam_long_side", "64", "96"),
    *("--seam_view_scale", "0.5", "--seam_batch_size", "4", "--seam_num_epoches", "1", "--cam_scales", "1"),
    *("--crf_num_iter", "2", "--tensorboard", "False", "--device", "cpu", "--quiet"),
]


def run(*argv, passes=FIRST_HALF, script=run_voc):
    return run_passes({p: PASSES[p] for p in passes}, lambda: script.parse([*FAST, *map(str, argv)]))


def failed(result):
    with (result / "failed.csv").open(encoding="utf-8", newline="") as f:
        return {(row["step"], Path(row["file"]).name) for row in csv.DictReader(f)}


def contents(folder, suffix=".npz"):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob(f"*{suffix}"))}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("sets") / "toy", num_train=6, num_val=3)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A checkpoint, for what does not need a trained one."""
    path = tmp_path_factory.mktemp("ckpt") / "seam.pth"
    torch.manual_seed(0)
    save_checkpoint(path, net.build("efficientnet_lite0", 6, head="seam", class_names=CLASS_NAMES))
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The result of all passes of this half."""
    result = tmp_path_factory.mktemp("result")
    assert run("--data_dir", data, "--result_dir", result) == 0
    return result


def test_a_whole_run(whole, data):
    names = sorted(p.stem for p in (data / "JPEGImages").iterdir())
    assert sorted(p.stem for p in (whole / "cam").iterdir()) == names
    lines = {f: (data / f"ImageSets/Segmentation/{f}.txt").read_text().split() for f in ("train", "val")}
    for name in names:
        size = Image.open(data / "JPEGImages" / f"{name}.jpg").size[::-1]
        cams = read_prediction(whole / "cam" / f"{name}.npz")
        assert cams.scores.shape == (len(cams.labels), *size) and 0 <= cams.scores.min() <= cams.scores.max() <= 1
        named = {CLASS_NAMES[label - 1] for label in cams.labels}
        xml = (data / "Annotations" / f"{name}.xml").read_text()
        assert named == {c for c in CLASS_NAMES if f"<name>{c}</name>" in xml}
        for folder in ("crf_la", "crf_ha"):
            path = whole / folder / f"{name}.npz"
            assert path.exists() == (name in lines["train"])
            if path.exists():
                maps = read_prediction(path, keys="label")
                assert maps.labels.tolist() == [0, *cams.labels] and maps.scores.shape[1:] == size
                assert np.abs(maps.scores.sum(0) - 1).max() < 0.02
    for name in lines["train"]:
        low, high = (read_prediction(whole / f / f"{name}.npz", keys="label").scores[0] for f in ("crf_la", "crf_ha"))
        assert low.mean() >= high.mean()
    assert (whole / "report.html").is_file() and not (whole / "failed.csv").exists()


def test_scores_are_those_of_the_evaluator(whole, data):
    scores = json.loads((whole / "metrics.json").read_text())["cam"]
    assert set(scores) == {"train", "val"} and scores["val"]["n"] == 3
    command = [sys.executable, "-m", "step.eval_sem_seg", "--pred_dir", str(whole / "cam"), "--dataset"]
    command += [str(data / "class_names.txt"), "--mask_dir", str(data / "SegmentationClass"), "--list"]
    command += [str(data / "ImageSets/Segmentation/val.txt"), "--out", str(whole / "other.json")]
    command += ["--bg_score", str(scores["val"]["best_threshold"]), "--quiet"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (other,) = json.loads((whole / "other.json").read_text()).values()
    row = scores["val"]
    assert row["miou"] == pytest.approx(other["miou"], abs=1e-6)
    assert row["contour_f"] == pytest.approx(other["contour"]["void_left_out"]["mean_f"], abs=1e-6)
    assert row["best_threshold"] == other["threshold_sweep"]["best_threshold"] and len(row["sweep"]) == 60
    assert row["sweep"][round(100 * row["best_threshold"])] == pytest.approx(row["miou"], abs=1e-6)
    with (whole / "scores/cam.csv").open(encoding="utf-8", newline="") as f:
        images = [(image["split"], image["image"]) for image in csv.DictReader(f)]
    assert len(images) == 9 and images[-1][0] == "val" and 0 < row["miou"] < 1


def test_a_second_run_does_nothing_and_other_settings_do(whole, data, capsys):
    before = {p: p.stat().st_mtime_ns for f in ("cam", "crf_la", "crf_ha") for p in (whole / f).iterdir()}
    files = contents(whole / "cam")
    assert run("--data_dir", data, "--result_dir", whole) == 0
    out = capsys.readouterr().out
    assert "make_cam: 0 maps" in out and "make_crf: 0 pairs" in out
    assert before == {p: p.stat().st_mtime_ns for p in before}
    again = ("make_cam_pass", "make_crf_pass")
    assert run("--data_dir", data, "--result_dir", whole, "--overwrite", passes=again) == 0
    assert contents(whole / "cam") == files and "make_cam: 9 maps" in capsys.readouterr().out
    assert run("--data_dir", data, "--result_dir", whole, "--crf_alphas", "1", "4", passes=again) == 0
    assert "make_cam: 0 maps" in (out := capsys.readouterr().out) and "make_crf: 6 pairs" in out
    assert run("--data_dir", data, "--result_dir", whole, "--cam_scales", "2", passes=again[:1]) == 0
    assert "make_cam: 9 maps" in capsys.readouterr().out


def test_maps_follow_edges_where_asked(whole, data, untrained, tmp_path, capsys):
    argv = ["--data_dir", data, "--cam_weights", untrained, "--cam_bits", "16", "--result_dir"]
    for result, flags in (("plain", ()), ("edges", ("--cam_pamr", "0.5"))):
        assert run(*argv, tmp_path / result, *flags, passes=("make_cam_pass",)) == 0
    for path in sorted((tmp_path / "plain/cam").iterdir()):
        plain, edges = (read_prediction(tmp_path / result / "cam" / path.name) for result in ("plain", "edges"))
        image = read_image(data / "JPEGImages" / f"{path.stem}.jpg")
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert (edges.labels == plain.labels).all() and edges.scores.shape == plain.scores.shape
        np.testing.assert_allclose(edges.scores, refine_cams(small, plain.scores), atol=1e-3)
    assert run(*argv, tmp_path / "edges", passes=("make_cam_pass",)) == 0  # as they were, asked for otherwise
    assert "make_cam: 9 maps" in capsys.readouterr().out


def test_a_training_with_other_settings_is_not_gone_on_with(whole, data, capsys):
    args = ("--data_dir", data, "--result_dir", whole, "--method", "seam")
    assert run(*args, passes=("train_seam_pass",)) == 2
    assert "method hfpl -> seam" in capsys.readouterr().err


def test_a_network_is_not_trained_where_imagenets_classifier_has_all_classes(data, tmp_path, capsys, monkeypatch):
    known = dict(zip(CLASS_NAMES, range(len(CLASS_NAMES)), strict=True))
    for step in ("train_seam", "classes"):
        monkeypatch.setattr(f"step.{step}.synsets_of", lambda name: (known[name],) if name in known else ())
    argv = ["--data_dir", data, "--seam_init", "imagenet", "--seam_as_known", "--result_dir"]
    made = ("train_seam_pass", "make_cam_pass", "report_pass")
    assert run(*argv, tmp_path / "r", passes=made) == 0
    assert "--seam_as_known False trains" in (out := capsys.readouterr().out) and "no step, the network" in out
    file = tmp_path / "r/ckpt/seam.pth"
    network, before = read_checkpoint(file), (file.read_bytes(), contents(tmp_path / "r/cam"))
    assert isinstance(network, CAMNet) and network.facts.class_names == tuple(CLASS_NAMES) and len(before[1]) == 9
    assert run(*argv, tmp_path / "r", passes=made) == 0
    assert "make_cam: 0 maps" in capsys.readouterr().out
    assert before == (file.read_bytes(), contents(tmp_path / "r/cam"))
    del known[CLASS_NAMES[2]]
    assert run(*argv, tmp_path / "other", passes=made[:1]) == 0
    assert f"from images alone: {CLASS_NAMES[2]}" in (out := capsys.readouterr().out) and "no step" not in out
    assert isinstance(read_checkpoint(tmp_path / "other/ckpt/seam.pth"), SEAMNet)


def test_what_was_made_lends_its_settings_to_what_follows(data, tmp_path, capsys):
    """`--train_seam_pass False` without --preset small --limit 4 is about the same four images and the same network."""
    result = tmp_path / "r"
    made = ("train_seam_pass", "make_cam_pass")
    assert run("--data_dir", data, "--result_dir", result, "--preset", "small", "--limit", "4", passes=made) == 0
    argv = ["--data_dir", str(data), "--result_dir", str(result), "--device", "cpu", "--quiet"]
    argv += [f"--{name}=False" for name in made]
    args = run_voc.parse(argv)
    assert (args.limit, args.preset, args.seam.network, args.seam.crop_size) == (4, "small", "efficientnet_lite0", 64)
    assert args.cam_scales == (1.0,) and args.seg.num_steps == 150  # the preset is that of all passes
    capsys.readouterr()
    passes = {name: PASSES[name] for name in ("make_sal_pass", "make_crf_pass", "eval_cam_pass")}
    assert run_passes(passes, lambda: run_voc.parse(argv)) == 0
    assert "make_crf: 4 pairs" in capsys.readouterr().out
    record = json.loads((result / "settings" / "cam.json").read_text())
    assert record["network"] == "efficientnet_lite0" and record["settings"]["limit"] == 4
    assert record["sha256"] == json.loads((result / "settings" / "train_seam.json").read_text())["sha256"]
    for flag, given, made_with in (("--limit", "6", "4"), ("--seam_network", "resnet38", "efficientnet_lite0")):
        assert run_passes(passes, lambda f=flag, g=given: run_voc.parse([*argv, f, g])) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{flag} {given}" in error and f"made with {made_with}" in error
    assert run_passes(passes, lambda: run_voc.parse([*argv, "--limit", "3"])) == 0  # some of what is there


def test_a_photograph_and_its_xml_are_checked_once_and_opened_once_per_pass(data, tmp_path):
    """An image of VOC's layout, told of by Python at every open: one check, one time per pass that needs its pixels."""
    code = """
import collections, json, os, sys
opened = collections.Counter()
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, os.PathLike)):
        opened[os.path.basename(os.fspath(args[0]))] += 1
import run_voc
from misc.run.passes import run_passes
sys.addaudithook(hook)
names = sys.argv[1].split()
assert run_passes({name: run_voc.PASSES[name] for name in names}, lambda: run_voc.parse(sys.argv[2:])) == 0
print(json.dumps({name: n for name, n in opened.items() if name.startswith("toy_00000")}))
"""
    train = ["train_seam_pass", "make_cam_pass", "make_crf_pass", "eval_cam_pass", "report_pass"]
    whole = ["--data_dir", data, "--result_dir", tmp_path / "r"]
    assert run(*whole, passes=train[:1]) == 0
    argv = [sys.executable, "-c", code, " ".join(train[1:]), *FAST, *map(str, whole)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    opened = json.loads(done.stdout.splitlines()[-1])
    assert opened["toy_00000.jpg"] == 1 + 3  # the check; make_cam, make_crf, report
    assert opened["toy_00000.xml"] == 1
    assert opened["toy_00000.png"] == 1 + 2  # the check of the mask; eval_cam, report


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_a_killed_training_goes_on_to_the_same_weights(data, tmp_path):
    args = ["--data_dir", data, "--seam_num_epoches", "2", "--state_steps", "1", "--num_workers", "1"]
    only = ("train_seam_pass",)
    assert run(*args, "--result_dir", tmp_path / "whole", passes=only) == 0
    off = [f"--{p}=False" for p in PASSES if p != "train_seam_pass"]
    command = [sys.executable, str(ROOT / "run_voc.py"), *FAST, *args, *off, "--result_dir", tmp_path / "killed"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, env=env)
    states, deadline = tmp_path / "killed" / "ckpt" / "train_seam", time.time() + 120
    while not list(states.glob("*.pt*")) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(*args, "--result_dir", tmp_path / "killed", passes=only) == 0
    first, second = (
        torch.load(tmp_path / name / "ckpt" / "seam.pth", weights_only=True)["state_dict"]
        for name in ("whole", "killed")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", ["plain", "seam"])
def test_the_baselines(method, data, tmp_path):
    args = ("--data_dir", data, "--result_dir", tmp_path, "--method", method)
    assert run(*args, passes=("train_seam_pass", "make_cam_pass")) == 0
    head = torch.load(tmp_path / "ckpt" / "seam.pth", weights_only=True)["facts"]["head"]
    assert head == {"plain": "sigmoid", "seam": "seam"}[method]
    columns = (tmp_path / "train_seam.csv").read_text().splitlines()[0].split(",")
    assert "isl" not in columns and "fsl" not in columns and ("ecr1" in columns) == (method == "seam")


def test_damaged_images_and_maps_are_listed_and_the_rest_is_done(data, untrained, tmp_path):
    own = tmp_path / "set"
    shutil.copytree(data, own)
    result = tmp_path / "r"
    bad = own / "JPEGImages" / "toy_00000.jpg"
    args = ("--data_dir", own, "--result_dir", result, "--cam_weights", untrained, "--eval_splits", "train")
    assert run(*args, passes=("make_cam_pass",)) == 0
    (result / "cam" / "toy_00001.npz").write_bytes(b"no zip")
    (result / "cam" / "toy_00002.npz").unlink()
    assert run(*args, passes=("make_crf_pass", "eval_cam_pass")) == 1
    expected = {("make_crf", "toy_00001.jpg"), ("make_crf", "toy_00002.jpg")}
    assert expected <= failed(result) and {f for s, f in failed(result) if s == "eval_sem_seg"} == {
        "toy_00001.npz",
        "toy_00002",
    }
    bad.write_bytes(bad.read_bytes()[:300])
    assert run(*args, passes=("make_cam_pass",)) == 2  # a picture of the sample that is looked at first


def test_images_of_no_class_have_empty_maps_and_background_labels(tmp_path, untrained, photographs):
    root = tmp_path / "set"
    root.mkdir()
    for name in ("cat", "coffee"):
        Image.fromarray(getattr(photographs, name)[:64, :80]).save(root / f"{name}.png")
    (root / "labels.csv").write_text("file,label\ncat.png,bean\ncoffee.png,\n")
    (root / "class_names.txt").write_text("\n".join(CLASS_NAMES))
    args = ("--data_dir", root, "--result_dir", tmp_path / "r", "--cam_weights", untrained)
    assert run(*args, passes=("make_cam_pass", "make_crf_pass")) == 0
    assert not read_prediction(tmp_path / "r" / "cam" / "coffee.npz").labels.size
    crf = read_prediction(tmp_path / "r" / "crf_la" / "coffee.npz", keys="label")
    assert crf.labels.tolist() == [0] and crf.scores.shape == (1, 64, 80) and (crf.scores == 1).all()
    assert run(*args, passes=("eval_cam_pass",)) == 2  # no masks


def test_more_images_of_another_set(shared, tmp_path, capsys):
    voc, coco = shared("data", "VOCdevkit", "VOC2012"), shared("data", "coco128")
    args = run_voc.parse(["--voc12_root", str(voc), "--extra_data_dir", str(coco), "--limit", "5"])
    train = open_train(args)
    assert len([f for f in train.images.files if voc in f.parents]) == 5 and train.images.labels.any(axis=1).all()
    added = [i for i, f in enumerate(train.images.files) if coco in f.parents]
    sofas = train.spec.class_names.index("sofa")
    assert 80 < len(added) < 128 and train.images.labels[added, sofas].sum() > 0
    parts = open_eval(args)
    assert set(parts) == {"train", "val"} and len(parts["val"].images) == 5
    assert len(open_all(args)) == len(train.images) + 5


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--voc12_root", "nowhere"], "--voc12_root nowhere: no such folder; python -m data.prepare voc12 --root"),
        (["--data_dir", "nowhere"], "--data_dir nowhere: no such folder"),
        (["--data_dir", "DATA", "--seam_network", "resnet38"], "--seam_network resnet38 starts from --seam_weights"),
        (["--data_dir", "DATA", "--seam_network", "vgg"], "--seam_network vgg: unknown"),
        (["--data_dir", "DATA", "--seam_network", "resnet38"], "Model A1 of https://github.com/itijyou/ademxapp"),
        (["--data_dir", "DATA", "--seam_weights", "no.pth"], "no.pth"),
        (["--data_dir", "DATA", "--extra_data_dir", "nowhere"], "--extra_data_dir nowhere"),
        (["--data_dir", "DATA", "--train_split", "odd"], "odd"),
        (["--data_dir", "DATA", "--train_seam_pass", "False"], "run train_seam, or give --cam_weights"),
    ],
)
def test_bad_input_is_one_clear_line(argv, text, data, tmp_path, capsys):
    argv = [str(data) if a == "DATA" else a for a in argv]
    assert run(*argv, "--result_dir", tmp_path / "r") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and text in error
    named = set(re.findall(r"--(\w+)", error.partition("python -m")[0]))
    assert named <= run_voc.parse([]).places.keys()  # flags that there are


def test_a_checkpoint_of_other_classes_is_refused(data, tmp_path, capsys):
    for names in (CLASS_NAMES[::-1], ("one", "two")):
        save_checkpoint(tmp_path / "x.pth", net.build("efficientnet_lite0", len(names), class_names=names))
        args = ("--data_dir", data, "--result_dir", tmp_path / "r", "--cam_weights", tmp_path / "x.pth")
        assert run(*args, passes=("make_cam_pass",)) == 2
        assert str(tmp_path / "x.pth") in capsys.readouterr().err


def test_defaults_are_published_ones_and_coco_differs_by_few():
    voc, coco = run_voc.parse([]), run_coco.parse([])
    assert (voc.seam_network, voc.seam_crop_size, voc.seam_batch_size, voc.seam_num_epoches) == ("resnet38", 448, 8, 8)
    assert (voc.seam_learning_rate, voc.seam_weight_decay, voc.seam_long_side) == (0.01, 5e-4, (448, 768))
    assert (voc.isl_weight, voc.isl_samples, voc.fsl_mu, voc.fsl_sigma, voc.fsl_weight) == (0.2, 10, 2.5, 5, 1)
    assert voc.result_dir.name == "voc12" and coco.result_dir.name == "coco14"
    voc, coco = voc.flat(), coco.flat()
    different = {k for k in voc if coco.get(k) != voc[k]}
    assert different == {"voc12_root", "result_dir", "fsl_weight", "seg_num_steps"}
    assert run_voc.parse(["--toy"]).result_dir.name == "toy" and run_voc.parse(["--toy", "--seam_batch_size", "3"])
    assert run_voc.parse(["--toy"]).seam_network == "efficientnet_lite0"
    assert run_voc.parse(["--toy", "False"]).seam_network == "resnet38"


def test_coco_is_read_by_its_own_script(tmp_path, photographs):
    root = tmp_path / "coco14"
    for split in ("train", "val"):
        (root / f"{split}2014").mkdir(parents=True)
        name = f"COCO_{split}2014_000000000009.jpg"
        Image.fromarray(photographs.cat[:64, :80]).save(root / f"{split}2014" / name)
        held = {
            "images": [{"id": 9, "file_name": name, "height": 64, "width": 80}],
            "annotations": [{"id": 1, "image_id": 9, "category_id": 17, "iscrowd": 0,
                             "segmentation": [[8, 8, 60, 8, 60, 50]], "bbox": [8, 8, 52, 42], "area": 1092}],
            "categories": [{"id": i, "name": n} for i, n in zip(SPEC.category_ids, SPEC.class_names, strict=True)],
        }  # fmt: skip
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(held))
    result = tmp_path / "r"
    args = ("--coco14_root", root, "--result_dir", result, "--seam_batch_size", "1")
    assert run(*args, passes=("train_seam_pass", "make_cam_pass", "make_crf_pass"), script=run_coco) == 0
    assert sorted(p.name[:8] for p in (result / "cam").iterdir())[0] == "COCO_tra"
