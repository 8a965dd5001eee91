"""Runs by shards as a person starts them: parts, killed processes, lists of images; the bytes of a plain run."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import net
import run_sample
import run_voc
from data.toy import write_toy
from misc.run.passes import run_passes
from net.weights import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent
FAST = ["--cam_network", "efficientnet_lite0", "--cam_scales", "1", "--device", "cpu", "--quiet", "--num_workers", "1"]
FAST += ["--make_sal_pass", "False", "--shard_size", "3"]
MADE = ("cam", "cam_pamr", "cam_slic")


def run(*argv):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse([*FAST, *map(str, argv)]))


def command(*argv):
    return [sys.executable, str(ROOT / "run_sample.py"), *FAST, *map(str, argv)]


def contents(result, kinds=MADE):
    return {p.relative_to(result): p.read_bytes() for kind in kinds for p in sorted((result / kind).rglob("*.*"))}


def markers(result):
    """(pass, shard) of each marker; none is there twice, and nothing else, and no temporary file."""
    files = [path for path in (result / "runs").rglob("*") if path.is_file()]
    assert not list(result.rglob("*.part")) and all(path.suffix in (".json", ".csv") for path in files)
    held = [json.loads(path.read_text()) for path in files if path.suffix == ".json"]
    return sorted((one["pass"], one["shard"]) for one in held)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten small photographs, one of them in a folder of its own."""
    from skimage import data

    root = tmp_path_factory.mktemp("set") / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(10):
        picture = Image.fromarray((data.chelsea(), data.coffee(), data.rocket())[i % 3])
        picture.resize((40 + 2 * (i % 4), 32)).save(root / ("sub" if i == 7 else "") / f"p{i}.png")
    return root


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    result = tmp_path_factory.mktemp("plain")
    assert run(folder, "--result_dir", result) == 0
    return contents(result)


ALL = sorted((name, shard) for name in ("make_cam", "make_label", "make_slic") for shard in range(4))


def test_parts_one_after_the_other(folder, plain, tmp_path, capsys, monkeypatch):
    for i in range(3):
        assert run(folder, "--result_dir", tmp_path, "--shard", f"{i}/3") == 0
    assert "left out: eval, doubtful, overview, report; once all shards are done" in capsys.readouterr().out
    assert contents(tmp_path) == plain and markers(tmp_path) == ALL and not (tmp_path / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json") if "runs" in path.parts}
    monkeypatch.setattr("step.sets.image_size", None)  # headers of what is done are not looked at again
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/1") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before and (tmp_path / "report.html").is_file()


def test_a_list_of_images(folder, plain, tmp_path):
    lines = sorted((str(path.relative_to(folder)) for path in folder.rglob("*.png")), reverse=True)
    (folder / "list.txt").write_text("\n".join(lines))
    try:
        assert run("--manifest", folder / "list.txt", "--result_dir", tmp_path) == 0
    finally:
        (folder / "list.txt").unlink()
    assert contents(tmp_path) == plain and markers(tmp_path) == ALL


def test_a_manifest_of_other_images_is_refused(folder, tmp_path, capsys):
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/4", "--make_slic_pass", "False") == 0
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/4", "--limit", "2") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "manifest.txt: is not of" in error


def test_failures_of_all_parts_are_merged(folder, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for path in folder.glob("*.png"):
        (own / path.name).write_bytes(path.read_bytes())
    for name in ("p1.png", "p4.png"):
        (own / name).write_bytes(b"no picture")
    assert [run(own, "--result_dir", tmp_path / "r", "--shard", f"{i}/2") for i in range(2)] == [1, 1]
    assert len(list((tmp_path / "r" / "runs").glob("failed_*_of_2.csv"))) == 2
    assert run(own, "--result_dir", tmp_path / "r", "--shard", "0/1", "--report_pass", "False") == 1
    with (tmp_path / "r" / "failed.csv").open(encoding="utf-8", newline="") as f:
        rows = {(row["step"], Path(row["file"]).name) for row in csv.DictReader(f)}
    assert rows == {("make_cam", "p1.png"), ("make_cam", "p4.png")}


def test_trainings_are_left_to_torchrun(folder, tmp_path, capsys):
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/2", "--train_sal_pass") == 2
    assert "first run train_sal_pass, by torchrun or alone" in capsys.readouterr().err


def start(*argv, **kwargs):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, **kwargs)


def test_two_processes(folder, plain, tmp_path):
    argv = command(folder, "--result_dir", tmp_path, "--num_devices")
    done = start(*argv, "2")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == plain and markers(tmp_path) == ALL and (tmp_path / "report.html").is_file()
    done = start(*argv, "0")
    assert done.returncode == 2 and "--num_devices 0" in done.stderr


def children_of(pid):
    """Processes that label: those that this process started, but for Python's tracker of resources."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, ValueError):
            pass
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes as Linux tells of them")
def test_killed_processes_are_started_again_and_a_killed_run_goes_on(folder, plain, tmp_path):
    argv = command(
        folder, "--result_dir", tmp_path, "--num_devices", "2", "--shard_size", "1", "--report_pass", "False"
    )
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed, deadline = set(), time.time() + 120
    while len(killed) < 2 and process.poll() is None and time.time() < deadline:
        if len(list((tmp_path / "cam").glob("*.png"))) > 2 * len(killed):
            for pid in children_of(process.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(killed) == 2
    time.sleep(1)  # the others see that it is gone
    done = start(*argv)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == plain
    assert markers(tmp_path) == sorted((name, k) for name in ("make_cam", "make_label", "make_slic") for k in range(10))


def test_a_shard_at_which_processes_die_is_given_up_and_listed(folder, tmp_path):
    """A module in the place of the script's, whose pass ends the process at one image."""
    (tmp_path / "deadly.py").write_text(
        "import os, sys\nimport run_sample, run_slic\nfrom misc.run.passes import run_passes\n"
        "from run_sample import PASSES, parse as _parse\nimport step.make_slic as step\n"
        "_one = step.make_slic\n"
        "def _deadly(image, cam, params):\n"
        "    if cam.shape[1] == 46: os._exit(9)\n"
        "    return _one(image, cam, params)\n"
        "step.make_slic = _deadly\n"
        "def parse(argv=None): return _parse(argv)\n"
        "if __name__ == '__main__': sys.exit(run_passes(PASSES, parse))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    argv = [sys.executable, str(tmp_path / "deadly.py"), *FAST, str(folder), "--result_dir", str(tmp_path / "r")]
    argv += ["--num_devices", "1", "--shard_size", "5", "--limit", "6", "--report_pass", "False"]
    done = start(*argv, env=env)
    assert done.returncode == 1, done.stderr
    with (tmp_path / "r" / "failed.csv").open(encoding="utf-8", newline="") as f:
        rows = [(row["step"], row["file"], row["reason"]) for row in csv.DictReader(f)]
    assert [row[:2] for row in rows] == [("shards", "shard 0")] and "died 3 times" in rows[0][2]
    assert ("make_slic", 1) in markers(tmp_path / "r") and ("make_slic", 0) not in markers(tmp_path / "r")


def test_maps_of_classes_by_shards(tmp_path):
    data = write_toy(tmp_path / "toy", num_train=5, num_val=2)
    fast = ["--data_dir", str(data), "--preset", "small", "--device", "cpu", "--quiet", "--cam_scales", "1"]
    fast += [
        "--seam_crop_size",
        "64",
        "--seam_long_side",
        "64",
        "96",
        "--seam_batch_size",
        "4",
        "--seam_num_epoches",
        "1",
    ]
    fast += ["--tensorboard", "False", "--crf_num_iter", "2", "--shard_size", "2"]

    def voc(on, *argv):
        off = [f"--{name}=False" for name in run_voc.PASSES if name not in on]
        passes = {name: run_voc.PASSES[name] for name in on}
        assert run_passes(passes, lambda: run_voc.parse([*fast, *off, *map(str, argv)])) == 0

    voc(["train_seam_pass", "make_cam_pass", "make_crf_pass"], "--result_dir", tmp_path / "a")
    weights = tmp_path / "a" / "ckpt" / "seam.pth"
    for i in range(2):
        args = ("--result_dir", tmp_path / "b", "--cam_weights", weights, "--shard", f"{i}/2")
        voc(["make_cam_pass", "make_crf_pass"], *args)
    kinds = ("cam", "crf_la", "crf_ha")
    assert contents(tmp_path / "a", kinds) == contents(tmp_path / "b", kinds)
    assert markers(tmp_path / "b") == sorted(
        [*(("make_cam", k) for k in range(4)), *(("make_crf", k) for k in range(3))]
    )


def test_segmentations_by_shards(tmp_path):
    """make_seg has images of its own, which tell how many shards there are."""
    data = write_toy(tmp_path / "toy", num_train=2, num_val=5)
    names = (data / "class_names.txt").read_text(encoding="utf-8").split()
    weights = tmp_path / "seg.pth"
    save_checkpoint(weights, net.build("efficientnet_lite0", len(names) + 1, head="largefov"))
    off = [f"--{name}=False" for name in run_voc.PASSES if name not in ("make_seg_pass", "export")]
    flags = ["--data_dir", data, "--make_seg_weights", weights, "--device", "cpu", "--quiet", "--shard_size", "2"]
    flags += ["--seg_scales", "0.25", *off]
    for result, argv in (("a", []), ("b", ["--shard", "0/1"])):
        argv = [*flags, "--result_dir", tmp_path / result, *argv]
        assert run_passes(run_voc.PASSES, lambda argv=argv: run_voc.parse([*map(str, argv)])) == 0
    assert contents(tmp_path / "a", ("seg",)) == contents(tmp_path / "b", ("seg",))
    assert len(contents(tmp_path / "b", ("seg",))) == 5 and ("make_seg", 2) in markers(tmp_path / "b")
