"""Training the CAM network on real pictures, by the commands that users give."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import net
from data.labelled import open_labelled
from misc.files.images import image_size
from misc.files.store import read_json
from misc.run import device
from net.weights import read_checkpoint
from run_sample import PASSES, TrainCam, parse
from step.train_cam import CamTask

ROOT = Path(__file__).resolve().parents[2]
OFF = [f for name in PASSES if name != "export" for f in (f"--{name}", str(name == "train_cam_pass"))]
SMALL = ["--cam_network", "efficientnet_lite0", "--cam_crop_size", "64", "--cam_batch_size", "4"]
SMALL += ["--cam_learning_rate", "0.003"]


@pytest.fixture
def classes(tmp_path, photographs):
    """Two classes of six pictures each, cut from photographs."""
    for name, picture in (("cat", photographs.cat), ("rocket", photographs.rocket)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(6):
            part = picture[10 * i : 10 * i + 200, 15 * i : 15 * i + 220]
            Image.fromarray(part).resize((80, 72)).save(tmp_path / "data" / name / f"{name}{i}.png")
    return tmp_path / "data"


def command(data, result, *flags, torchrun=0, restarts=0):
    start = [sys.executable]
    if torchrun:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(torchrun)]
        start += ["--max-restarts", str(restarts)]
    return [*start, "run_sample.py", *OFF, *SMALL, "--cls_dataset_dir", str(data), "--result_dir", str(result),
            "--device", "cpu", *map(str, flags)]  # fmt: skip


def run(data, result, *flags, torchrun=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command(data, result, *flags, torchrun=torchrun), cwd=ROOT, capture_output=True, text=True,
                          env=environment, check=False)  # fmt: skip


def weights(result):
    return read_checkpoint(result / "ckpt" / "cam.pth").state_dict()


def test_it_learns_and_make_cam_uses_it(classes, tmp_path):
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x0,y0,x1,y1\n" + "".join(f"cat{i}.png,5,5,70,70\n" for i in range(6)))
    done = run(classes, tmp_path / "r", "--cam_num_steps", 9, "--cam_ema", 0, "--cls_val_dir", classes,
               "--cls_val_boxes", boxes, "--make_cam_pass", "True", "--sal_dataset_dir", classes)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "images          12" in done.stdout
    assert f"weights of {tmp_path / 'r' / 'ckpt' / 'cam.pth'}" in done.stdout
    scores = read_json(tmp_path / "r" / "metrics.json")["train_cam"]
    assert scores["top1"] == 1.0 and set(scores) == {"top1", "max_box_acc", "images_per_s"}
    assert len(list((tmp_path / "r" / "cam").rglob("*.png"))) == 12
    trained = read_checkpoint(tmp_path / "r" / "ckpt" / "cam.pth")
    assert trained.facts.class_names == ("cat", "rocket") and trained.facts.head == "softmax"
    assert (tmp_path / "r" / "ckpt" / "cam_best.pth").is_file()
    header = (tmp_path / "r" / "train.csv").read_text().splitlines()[0]
    assert header == "step,epoch,loss,lr,images_per_s,top1,max_box_acc"


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(classes, tmp_path):
    flags = ("--cam_num_steps", 6, "--state_steps", 1)
    assert run(classes, tmp_path / "whole", *flags).returncode == 0
    states = tmp_path / "killed" / "ckpt" / "train_cam"
    process = subprocess.Popen(command(classes, tmp_path / "killed", *flags), cwd=ROOT, stdout=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    while not list(states.glob("step_[23].pth")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "ckpt" / "cam.pth").exists()
    assert run(classes, tmp_path / "killed", *flags).returncode == 0
    whole, killed = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_two_processes_make_the_step_of_one(classes, tmp_path):
    """SGD without momentum or decay: what a step moves is the gradient."""
    off = ("momentum", "weight_decay", "ema", "clip", "warm_up")
    flags = ["--cam_num_steps", 1, *(word for name in off for word in (f"--cam_{name}", 0))]
    one = run(classes, tmp_path / "one", *flags)
    two = run(classes, tmp_path / "two", *flags, torchrun=2)
    assert one.returncode == two.returncode == 0, two.stderr
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    start = net.build("efficientnet_lite0", 2, layout="imagenet", head="softmax")
    net.weights.load_backbone(start, None)
    for key, value in start.state_dict().items():
        if key.startswith("backbone.") and "num_batches" not in key:
            change = (a[key] - value).abs().max()
            assert (a[key] - b[key]).abs().max() <= 1e-5 * max(change, 1e-2), key
    assert two.stdout.count("images          12") == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes as Linux tells of them")
def test_a_killed_rank_is_started_again_and_goes_on_from_the_last_state(classes, tmp_path):
    flags = ("--cam_num_steps", 8, "--state_steps", 1)
    assert run(classes, tmp_path / "whole", *flags, torchrun=2).returncode == 0
    states = tmp_path / "killed" / "ckpt" / "train_cam"
    argv = command(classes, tmp_path / "killed", *flags, torchrun=2, restarts=1)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not list(states.glob("step_[34].pth")):
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(max(ranks_of(process.pid)), signal.SIGKILL)
        seen = set()
        while process.poll() is None:
            seen |= {path.name for path in states.glob("step_*.pth")}
            time.sleep(0.02)
    assert process.returncode == 0 and "step_1.pth" not in seen
    assert (tmp_path / "log").read_text().count("images          12") == 2
    whole, killed = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def ranks_of(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"run_sample.py" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, ValueError):  # it has ended
            pass
    return found


@pytest.mark.parametrize(
    ("spoil", "flags", "message"),
    [
        (lambda d: (d / "dog").mkdir(), (), "dog"),
        (lambda d: (d / "cat" / "cat0.png").write_bytes(b"not a picture"), (), "cat0.png"),
        (lambda d: None, ("--cls_val_dir", "{val}"), "bird"),
        (lambda d: None, ("--cam_init_weights", "{other}"), "it is of a resnet50, and a efficientnet_lite0 is wanted"),
        (lambda d: None, ("--cls_dataset_dir", "nowhere"), "nowhere"),
        (lambda d: None, ("--cam_network", "vgg16"), "vgg16"),
        (lambda d: None, ("--cam_network", "resnet38"), "resnet38"),
        (lambda d: None, ("--cls_val_boxes", "no.csv"), "no.csv"),
        (
            lambda d: (d / "labels.csv").write_text("file,label\ncat/absent.png,cat\n"),
            ("--cls_layout", "csv"),
            "absent",
        ),
        (lambda d: None, ("--cam_batch_size", "1", "--accumulate", "2"), "cannot be shared by 2"),
    ],
)
def test_bad_input_is_one_clear_line(spoil, flags, message, classes, tmp_path, capsys):
    from misc.run.passes import run_passes
    from net.weights import save_checkpoint

    val = tmp_path / "val" / "bird"
    val.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(val / "a.png")
    other = tmp_path / "other.pth"
    if "{other}" in flags:
        save_checkpoint(other, net.build("resnet50", 2))
    spoil(classes)
    given = [f.format(val=val.parent, other=other) for f in flags]
    argv = [*OFF, *SMALL, "--cls_dataset_dir", str(classes), "--result_dir", str(tmp_path / "r"), *given]
    assert run_passes(PASSES, lambda: parse([*argv, "--cam_num_steps", "1"])) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and message in error[0], error


def test_a_disk_without_space(classes, tmp_path, capsys, monkeypatch):
    import misc.train.checkpoint
    import net.weights
    from misc.run.passes import run_passes

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(net.weights.torch, "save", full)
    argv = [*OFF, *SMALL, "--cls_dataset_dir", str(classes), "--result_dir", str(tmp_path / "r")]
    assert run_passes(PASSES, lambda: parse([*argv, "--cam_num_steps", "1"])) == 2
    error = capsys.readouterr().err
    assert "cam.pth: No space left on device" in error and misc.train.checkpoint.last_state(tmp_path / "r") is None


def test_a_device_that_spares_the_readers_is_given_large_photographs_at_part_of_their_size(
    classes, photographs, monkeypatch
):
    Image.fromarray(photographs.coffee).resize((1600, 1200)).save(classes / "cat" / "large.jpg", quality=95)
    data = open_labelled(classes)
    index, recipe, tasks = data.names.index("large"), TrainCam(crop_size=96, jitter=0.0, erasing=0.0), []
    for spares in (False, True):
        monkeypatch.setitem(device._FACTS, "cpu", device.DeviceFacts(spares_readers=spares))
        tasks.append(CamTask(net.build("efficientnet_lite0", len(data.class_names)), data, recipe))
    for seed in range(4):
        whole, part = (task.sample(index, np.random.default_rng(seed))[0].astype(int) for task in tasks)
        assert whole.shape == part.shape == (96, 96, 3) and 0 < np.abs(whole - part).mean() < 4
    assert image_size(data.files[index]) == (1200, 1600)
