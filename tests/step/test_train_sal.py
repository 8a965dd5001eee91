"""A saliency network learns from labels, by the commands: without masks, killed, in two processes, of bad input."""

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import run_sample
from misc.files.store import read_json
from misc.run.passes import run_passes
from misc.train.checkpoint import last_state
from net import SalNet
from net.weights import read_checkpoint
from step.train_sal import SalTask, halves, with_crf

ROOT = Path(__file__).resolve().parents[2]
SHORT = [
    "--sal_network",
    "efficientnet_lite0",
    "--sal_crop_size",
    "64",
    "--sal_view_sides",
    "32",
    "64",
    "--device",
    "cpu",
]
SHORT += ["--sal_batch_size", "2", "--sal_num_steps", "4", "--sal_refine_from", "0.3", "--quiet", "--sal_sides", "64"]
NUM = 3


def flags(root, *argv, on=("train_sal",)):
    wanted = {f"{name}_pass": f"--{name}_pass={name in on}" for name in _names()}
    return [*map(str, [*SHORT, *wanted.values(), "--sal_dataset_dir", root / "set", "--result_dir", root / "r", *argv])]


def _names():
    return [name.removesuffix("_pass") for name in run_sample.PASSES if name.endswith("_pass")]


def run(root, *argv, **kwargs):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse(flags(root, *argv, **kwargs)))


@pytest.fixture
def root(tmp_path, photographs):
    """Three pictures with both labels, and masks, which nothing here may read."""
    for i, (name, picture) in enumerate([*vars(photographs).items()][:NUM]):
        small = cv2.resize(picture, (96, 72), interpolation=cv2.INTER_AREA)
        label = cv2.circle(np.zeros((72, 96), np.uint8), (40 + 8 * i, 36), 20, 255, -1)
        files = {
            "set/images": small,
            "set/masks": 255 - label,
            "r/cam_pamr": label,
            "r/cam_slic": cv2.blur(label, (9, 9)),
        }
        for folder, array in files.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def copies(root, *names):
    for name in names:
        shutil.copytree(root / "set", root / name / "set")
        shutil.copytree(root / "r", root / name / "r")
    return [root / name for name in names]


def weights(root, name="sal"):
    return {k: v.numpy() for k, v in read_checkpoint(root / "r" / "ckpt" / f"{name}.pth").state_dict().items()}


def same(one, other):
    return all(np.array_equal(value, other[key]) for key, value in one.items())


def test_masks_are_of_no_account_and_two_runs_give_the_same_bytes(root):
    with_masks, without = copies(root, "a", "b")
    shutil.rmtree(without / "set" / "masks")
    for one in (with_masks, without):
        assert run(one, "--sal_rounds", "2", on=("train_sal", "make_sal")) == 0
    assert same(weights(with_masks), weights(without))
    for folder in ("sal", "sal_round1"):
        files = sorted((with_masks / "r" / folder).iterdir())
        assert len(files) == NUM
        assert all(path.read_bytes() == (without / "r" / folder / path.name).read_bytes() for path in files)
    assert isinstance(read_checkpoint(with_masks / "r" / "ckpt" / "sal.pth"), SalNet)
    halves = [weights(with_masks, f"sal_round1_{half}") for half in "ab"]
    assert not same(weights(with_masks), halves[0]) and not same(*halves)  # of other labels
    rows = (with_masks / "r" / "train_sal.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,loss,iou,views,lr") and len(rows) == 5
    assert read_json(with_masks / "r" / "settings" / "train_sal.json")["settings"]["sal_num_steps"] == 4


def test_targets_move_towards_the_network_and_are_kept_with_the_state(root):
    assert run(root) == 0
    held = last_state(root / "r" / "ckpt" / "train_sal")["net"]["_extra_state"]
    labels = []
    for path in sorted((root / "set" / "images").iterdir()):
        both = [np.float32(Image.open(root / "r" / kind / path.name)) for kind in ("cam_pamr", "cam_slic")]
        labels.append(cv2.resize(sum(both) / 2, (16, 16), interpolation=cv2.INTER_AREA))
    moved = np.abs(held["targets"].numpy() - np.stack(labels)).mean((1, 2))
    assert held["forwards"] == 4 and held["targets"].shape == (NUM, 16, 16) and (moved > 5).all()
    assert run(root, "--resume", "False", "--sal_refine_keep", "1") == 0
    held = last_state(root / "r" / "ckpt" / "train_sal")["net"]["_extra_state"]
    assert np.abs(held["targets"].numpy() - np.stack(labels)).max() <= 1


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(root, monkeypatch):
    whole, killed = copies(root, "whole", "killed")
    assert run(whole) == 0
    loss = SalTask.loss

    def fail(task, *batch):
        if task.net.forwards == 3:
            raise KeyboardInterrupt
        return loss(task, *batch)

    monkeypatch.setattr(SalTask, "loss", fail)
    assert run(killed, "--state_steps", "1") == 130
    assert not (killed / "r" / "ckpt" / "sal.pth").exists()
    monkeypatch.setattr(SalTask, "loss", loss)
    assert run(killed, "--state_steps", "1") == 0
    assert same(weights(whole), weights(killed))
    states = [last_state(one / "r" / "ckpt" / "train_sal")["net"]["_extra_state"] for one in (whole, killed)]
    assert torch.equal(states[0]["targets"], states[1]["targets"])


def test_two_processes_learn_from_all_targets(root):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run_sample.py"]
    (root / "r" / "cam_slic").rename(root / "r" / "cam")  # the first process makes these labels, the other waits
    argv = ["--sal_refine_from", "0", "--sal_num_steps", "3", "--sal_rounds", "2"]
    argv = flags(root, *argv, on=("make_slic", "train_sal"))
    done = subprocess.run([*command, *argv], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    held = last_state(root / "r" / "ckpt" / "train_sal_round1_a")["net"]["_extra_state"]["targets"].numpy()
    assert all(((target > 0) & (target < 255)).mean() > 0.9 for target in held)  # those of the other process too
    assert len(list((root / "r" / "sal_round1").iterdir())) == NUM and (root / "r" / "ckpt" / "sal.pth").is_file()


def test_two_processes_wait_for_what_the_first_one_makes(root):
    for name in ("cam_pamr", "cam_slic"):
        shutil.rmtree(root / "r" / name)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run_sample.py"]
    on = ("make_cam", "make_label", "make_slic", "train_sal", "make_sal")
    argv = flags(root, "--cam_network", "efficientnet_lite0", "--cam_scales", "1", "--label_pamr_num_iter", "1", on=on)
    done = subprocess.run([*command, *argv], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert len(list((root / "r" / "sal").iterdir())) == NUM and done.stdout.count("make_sal: 3 labels made") == 1


def test_a_round_labels_what_its_networks_have_not_seen():
    images = {name: Path(name) for name in "vwxyz"}
    (_, *first), (_, *second) = halves(images)
    assert [*map("".join, first)] == ["vxz", "wy"] and second == first[::-1]
    one = {"v": Path("v")}
    assert [(seen, others) for _, seen, others in halves(one)] == [(one, one), (one, one)]


def test_labels_move_to_what_a_crf_makes_of_predictions(root):
    with_it, without = copies(root, "a", "b")
    assert run(with_it) == 0 and run(without, "--sal_refine_crf", "0") == 0
    first, second = (
        last_state(one / "r" / "ckpt" / "train_sal")["net"]["_extra_state"]["targets"] for one in (with_it, without)
    )
    assert not torch.equal(first, second) and not same(weights(with_it), weights(without))


def test_labels_move_to_the_edges_of_the_image():
    disc = cv2.circle(np.zeros((64, 64), np.uint8), (32, 32), 16, 255, -1)
    image = torch.from_numpy(np.stack([disc, 255 - disc, disc])[None])
    rough = torch.from_numpy(cv2.blur(cv2.resize(disc, (16, 16), interpolation=cv2.INTER_AREA), (5, 5)))[None] / 255
    exact = torch.from_numpy(cv2.resize(disc, (16, 16), interpolation=cv2.INTER_AREA))[None] / 255
    assert with_crf(image, rough, 0) is rough
    errors = [float((with_crf(image, rough, share) - exact).abs().mean()) for share in (0, 0.5, 1)]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.7 * errors[0]


def test_it_starts_from_a_network(root):
    assert run(root) == 0
    first = weights(root)
    shutil.copy(root / "r" / "ckpt" / "sal.pth", root / "start.pth")
    argv = ("--sal_init", root / "start.pth", "--sal_learning_rate", "1e-12", "--resume", "False")
    for kind in ("cam_pamr", "cam_slic"):
        shutil.rmtree(root / "r" / kind)  # it learns from that network's labels
    assert run(root, *argv) == 0
    assert len([*(root / "r" / "sal_round0").iterdir()]) == NUM
    assert all(np.allclose(value, first[key], atol=1e-6) for key, value in weights(root).items())


def test_bad_input_is_one_line(root, capsys):
    def error(*argv):
        assert run(root, *argv) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err

    label = root / "r" / "cam_slic" / "cat.png"
    held = label.read_bytes()
    label.unlink()
    assert (
        "1 labels (superpixel-wise label) are missing" in (err := error()) and "make_slic" in err and "cat.png" in err
    )
    Image.new("L", (30, 72)).save(label)
    assert "cat.png is 30 x 72, the image 96 x 72" in error()
    label.write_bytes(held[:100])
    assert "cat.png" in error()
    label.write_bytes(held)
    assert "none.pth" in error("--sal_init", root / "none.pth")
    assert "--sal_network vgg: unknown" in error("--sal_network", "vgg")
    assert "--sal_view_sides 64: " in error("--sal_view_sides", "64")
    for path in [*(root / "r" / "cam_pamr").iterdir(), *(root / "r" / "cam_slic").iterdir()]:
        Image.new("L", (96, 72)).save(path)
    assert "no label in" in (err := error()) and "there is nothing to learn" in err
    shutil.rmtree(root / "r" / "cam_pamr")
    assert "3 labels (pixel-wise label) are missing" in (err := error()) and "make_label" in err
    assert not (root / "r" / "ckpt").exists()


def test_one_image(root):
    assert run(root, "--limit", "1", on=("train_sal", "make_sal")) == 0
    assert [path.stem for path in (root / "r" / "sal").iterdir()] == ["astronaut"]


def test_labels_of_a_network(root, capsys):
    """make_sal: at the image's own size, kept where nothing changed, made anew by another network or setting."""
    assert run(root, on=("train_sal", "make_sal")) == 0
    made = {path: path.read_bytes() for path in (root / "r" / "sal").iterdir()}
    assert {Image.open(path).size for path in made} == {(96, 72)} and len(made) == NUM
    network, shown = root / "r" / "ckpt" / "sal.pth", capsys.readouterr
    shown()
    assert run(root, on=("make_sal",)) == 0 and "make_sal: 0 labels made, 3 kept" in shown().out
    assert run(root, "--sal_crf", "False", on=("make_sal",)) == 0 and "3 labels made" in shown().out
    assert run(root, "--sal_sides", "32", "64", "--sal_binary", "0.5", on=("make_sal",)) == 0
    assert {value for path in made for value in np.unique(np.asarray(Image.open(path)))} <= {0, 255}
    assert run(root, on=("make_sal",)) == 0
    assert made == {path: path.read_bytes() for path in made}
    shown()
    network.rename(root / "moved.pth")
    assert run(root, "--sal_weights", root / "moved.pth", on=("make_sal",)) == 0 and "0 labels made" in shown().out
    assert run(root, "--sal_weights", "none", "--overwrite", on=("make_sal",)) == 0 and "made" not in shown().out
    assert run(root, "--sal_weights", root / "none.pth", on=("make_sal",)) == 2
    assert "none.pth" in (err := shown().err) and err.count("\n") == 1
    held = read_json(root / "r" / "settings" / "sal.json")
    assert held["network"] == "efficientnet_lite0" and len(held["sha256"]) == 64
