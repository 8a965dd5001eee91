"""Runs by shards as a person starts them: parts, killed processes, lists of images; the bytes of a plain run."""

import csv
import json
import os
import shutil
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
from step import sal_labels

ROOT = Path(__file__).resolve().parent.parent
FAST = ["--cam_network", "efficientnet_lite0", "--cam_scales", "1", "--device", "cpu", "--quiet", "--num_workers", "1"]
FAST += ["--make_sal_pass", "False", "--shard_size", "3"]
MADE = ("cam", "cam_pamr", "cam_slic")


def words(*argv):
    """Flags, with the masks beside the folder that comes first."""
    masks = Path(argv[0]).parent / "masks"
    return [*FAST, *map(str, argv), *(["--mask_dir", str(masks)] if masks.is_dir() else [])]


def run(*argv):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse(words(*argv)))


def command(*argv):
    return [sys.executable, str(ROOT / "run_sample.py"), *words(*argv)]


def contents(result, kinds=MADE):
    """Maps and labels, and what is told of all."""
    told = [path for name in ("metrics.json", "doubtful.csv", "scores/*") for path in sorted(result.glob(name))]
    made = [path for kind in kinds for path in sorted((result / kind).rglob("*.*"))]
    return {path.relative_to(result): path.read_bytes() for path in (*made, *told)}


def markers(result):
    """(pass, shard) of each marker; none is there twice, and no temporary file, and what was found has a marker."""
    files = [path for path in (result / "runs").rglob("*") if path.is_file()]
    assert not list(result.rglob("*.part")) and all(path.suffix in (".json", ".csv") for path in files)
    found = [path for path in files if path.parent.name == "found"]
    assert all((path.parent.parent / path.name).is_file() for path in found)
    held = [json.loads(path.read_text()) for path in files if path.suffix == ".json" and path not in found]
    return sorted((one["pass"], one["shard"]) for one in held)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten small photographs, one of them in a folder of its own, and masks beside them."""
    from skimage import data

    root = tmp_path_factory.mktemp("set") / "photos"
    (root / "sub").mkdir(parents=True)
    for i in range(10):
        picture = Image.fromarray((data.chelsea(), data.coffee(), data.rocket())[i % 3])
        name, picture = f"{'sub/' * (i == 7)}p{i}.png", picture.resize((40 + 2 * (i % 4), 32))
        picture.save(root / name)
        mask = root.parent / "masks" / name
        mask.parent.mkdir(parents=True, exist_ok=True)
        picture.convert("L").point(lambda v: 255 * (v > 120)).save(mask)
    return root


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    result = tmp_path_factory.mktemp("plain")
    assert run(folder, "--result_dir", result) == 0
    held = contents(result)
    assert {Path("metrics.json"), Path("doubtful.csv"), Path("scores/cam_pamr.csv")} <= held.keys()
    return held


PASSES = ("make_cam", "make_label", "make_slic", "eval", "doubtful")
ALL = sorted((name, shard) for name in PASSES for shard in range(4))


def test_parts_one_after_the_other(folder, plain, tmp_path, capsys, monkeypatch):
    for i in range(3):
        assert run(folder, "--result_dir", tmp_path, "--shard", f"{i}/3") == 0
    assert "left out: eval, doubtful, overview, report; once all shards are done" in capsys.readouterr().out
    made = {path: data for path, data in plain.items() if path.parts[0] in MADE}
    assert contents(tmp_path) == made and markers(tmp_path) == ALL and not (tmp_path / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json") if "runs" in path.parts}
    monkeypatch.setattr("step.sets.image_size", None)  # headers of what is done are not looked at again
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/1") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before and (tmp_path / "report.html").is_file()
    assert contents(tmp_path) == plain


def test_a_list_of_images(folder, plain, tmp_path):
    lines = sorted((str(path.relative_to(folder)) for path in folder.rglob("*.png")), reverse=True)
    (folder / "list.txt").write_text("\n".join(lines))
    masks = folder.parent / "masks"
    try:
        assert run("--manifest", folder / "list.txt", "--result_dir", tmp_path, "--mask_dir", masks) == 0
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


def test_images_that_come_and_go_are_told_of(folder, tmp_path, capsys):
    """The order of a manifest stays, as others may work by it; a list that says the same is no reason to speak."""
    own = tmp_path / "photos"
    shutil.copytree(folder, own)
    argv = (own, "--result_dir", tmp_path / "r", "--make_slic_pass", "False", "--report_pass", "False")
    assert run(*argv, "--shard", "0/1") == 0
    (own / "sub" / "new.png").write_bytes((own / "p0.png").read_bytes())
    (own / "p3.png").rename(own / "p3x.png")
    capsys.readouterr()
    assert run(*argv, "--shard", "0/2") == 0 and "went since" not in capsys.readouterr().out
    assert run(*argv, "--shard", "0/1") == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "went since" in line)
    assert line.endswith("manifest.txt: 2 images came and 1 went since it was written; remove it to take them in")
    (own / "sub" / "new.png").unlink()
    (own / "p3x.png").rename(own / "p3.png")
    assert run(*argv, "--shard", "0/1") == 0 and "went since" not in capsys.readouterr().out


def test_scores_follow_masks_and_failures_are_those_of_a_plain_run(folder, tmp_path):
    """Masks of another folder, of which one is missing, and one more is damaged."""
    masks = tmp_path / "masks_2"
    shutil.copytree(folder.parent / "masks", masks)
    (masks / "p5.png").unlink()
    (masks / "p2.png").write_bytes(b"no picture")
    argv = ("--result_dir", tmp_path / "r", "--make_slic_pass", "False", "--report_pass", "False")
    assert run(folder, *argv, "--shard", "0/1") == 0
    before = contents(tmp_path / "r")
    told = {}
    for result, part in (("r", ("--shard", "0/1")), ("plain", ())):
        own = (*FAST, str(folder), *map(str, argv), "--result_dir", str(tmp_path / result), "--mask_dir", str(masks))
        assert run_passes(run_sample.PASSES, lambda own=own, part=part: run_sample.parse([*own, *part])) == 1
        with (tmp_path / result / "failed.csv").open(encoding="utf-8", newline="") as f:
            told[result] = sorted((row["step"], Path(row["file"]).name) for row in csv.DictReader(f))
    assert told["r"] == told["plain"] and len(told["r"]) == 4  # without a mask; map, label and row of a damaged one
    assert before != contents(tmp_path / "r") == contents(tmp_path / "plain")
    for name in ("p2.png", "p5.png"):
        shutil.copy(folder.parent / "masks" / name, masks / name)
    again = (*FAST, str(folder), *map(str, argv), "--mask_dir", str(masks), "--shard", "0/1")
    assert run_passes(run_sample.PASSES, lambda: run_sample.parse(again)) == 0
    assert contents(tmp_path / "r") == before  # also of a mask that came later


def test_shards_without_a_label_are_told_of(folder, tmp_path):
    argv = (folder, "--result_dir", tmp_path, "--make_slic_pass", "False", "--report_pass", "False")
    assert run(*argv, "--shard", "0/2") == 0
    assert run(*argv, "--shard", "0/1", "--make_cam_pass", "False", "--make_label_pass", "False") == 1
    with (tmp_path / "failed.csv").open(encoding="utf-8", newline="") as f:
        rows = [(row["step"], Path(row["file"]).name, row["reason"]) for row in csv.DictReader(f)]
    reason = "shards of 4 images have no label there"  # 3 of shard 1, 1 of shard 3
    assert rows == [("eval", "cam", reason), ("eval", "cam_pamr", reason)]


def test_networks_stay_loaded_from_shard_to_shard(folder, tmp_path, monkeypatch):
    loads = []
    read = sal_labels.read_network
    monkeypatch.setattr(sal_labels, "read_network", lambda *given: loads.append(given) or read(*given))
    others = [
        word for name in ("make_cam", "make_label", "make_slic", "report") for word in (f"--{name}_pass", "False")
    ]
    argv = ("--limit", "4", "--shard_size", "1", "--sal_sides", "32", "--make_sal_pass", "True", *others)
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/1", *argv) == 0
    assert len(loads) == 1 and len([*(tmp_path / "sal").glob("*.png")]) == 4


def test_trainings_are_left_to_torchrun(folder, tmp_path, capsys):
    assert run(folder, "--result_dir", tmp_path, "--shard", "0/2", "--train_sal_pass") == 2
    assert "first run train_sal_pass, by torchrun or alone" in capsys.readouterr().err


def start(*argv, **kwargs):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, **kwargs)


def test_two_processes(folder, plain, tmp_path):
    argv = command(folder, "--result_dir", tmp_path)
    done = start(*argv, "--num_devices", "2")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path) == plain and markers(tmp_path) == ALL and (tmp_path / "report.html").is_file()
    done = start(*argv, "--num_devices", "0")
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
    assert markers(tmp_path) == sorted((name, k) for name in PASSES for k in range(10))


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

    on = ["make_cam_pass", "make_sal_pass", "make_crf_pass", "doubtful_pass"]
    voc(["train_seam_pass", *on], "--result_dir", tmp_path / "a")
    weights = tmp_path / "a" / "ckpt" / "seam.pth"
    for part in ("0/2", "1/2", "0/1"):
        voc(on, "--result_dir", tmp_path / "b", "--cam_weights", weights, "--shard", part)
    kinds = ("cam", "sal", "crf_la", "crf_ha")
    assert contents(tmp_path / "a", kinds) == contents(tmp_path / "b", kinds)
    assert markers(tmp_path / "b") == sorted(
        [*((name, k) for name in ("make_cam", "make_sal", "doubtful") for k in range(4))]
        + [("make_crf", k) for k in range(3)]
    )


def test_segmentations_by_shards(tmp_path):
    """make_seg has images of its own, which tell how many shards there are; scores are those of a plain run."""
    data = write_toy(tmp_path / "toy", num_train=2, num_val=5)
    names = (data / "class_names.txt").read_text(encoding="utf-8").split()
    weights = tmp_path / "seg.pth"
    save_checkpoint(weights, net.build("efficientnet_lite0", len(names) + 1, head="largefov"))
    off = [f"--{name}=False" for name in run_voc.PASSES if name not in ("make_seg_pass", "eval_seg_pass")]
    flags = ["--data_dir", data, "--make_seg_weights", weights, "--device", "cpu", "--quiet", "--shard_size", "2"]
    flags += ["--seg_scales", "0.25", *off]
    for result, argv in (("a", []), *(("b", ["--shard", part]) for part in ("0/2", "1/2", "0/1"))):
        argv = [*flags, "--result_dir", tmp_path / result, *argv]
        assert run_passes(run_voc.PASSES, lambda argv=argv: run_voc.parse([*map(str, argv)])) == 0
    held = contents(tmp_path / "b", ("seg",))
    assert held == contents(tmp_path / "a", ("seg",)) and {Path("scores/seg.csv"), Path("metrics.json")} <= held.keys()
    assert len(held) == 7 and markers(tmp_path / "b") == sorted(
        (f"{n}_seg", k) for n in ("make", "eval") for k in range(3)
    )
