"""What looks at results opens each of their files once: Python tells of every open."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.toy import CLASS_NAMES, write_toy
from misc.files.labels import write_mask
from misc.files.store import write_cams

ROOT = Path(__file__).resolve().parents[2]
COUNT = """
import collections, importlib, json, os, sys
from misc.run.passes import run_passes

script, root, passes, *argv = sys.argv[1:]
module, opened, counts = importlib.import_module(script), collections.Counter(), []

def hook(event, args):
    if event == "open" and isinstance(args[0], (str, os.PathLike)) and os.fspath(args[0]).startswith(root):
        opened[os.path.relpath(args[0], root).replace(os.sep, "/")] += 1

sys.addaudithook(hook)
for name in passes.split():
    opened.clear()
    assert run_passes({name: module.PASSES[name]}, lambda: module.parse(argv)) == 0
    counts.append({path: n for path, n in opened.items() if not path.endswith((".part", "failed.csv"))})
print(json.dumps(counts))
"""


def opens(script: str, root: Path, passes: str, *argv: str) -> list[dict[str, int]]:
    """Of each pass: file below root -> how often it was opened."""
    command = [sys.executable, "-c", COUNT, script, str(root), passes, *map(str, argv), "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def three(tmp_path, photographs):
    """A data set and a result of three images."""
    for name in ("cat", "coffee", "rocket"):
        gray = cv2.cvtColor(getattr(photographs, name)[:60, :80], cv2.COLOR_RGB2GRAY)
        pictures = {"set/images": getattr(photographs, name)[:60, :80], "set/masks": (gray > 90) * np.uint8(255)}
        for folder, picture in {**pictures, "r/cam": gray, "r/cam_pamr": cv2.equalizeHist(gray)}.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def test_of_a_saliency_run(three):
    argv = ("--sal_dataset_dir", three / "set", "--result_dir", three / "r", "--export", "coco")
    passes = "eval_pass overview_pass report_pass report_pass export"
    evaluated, overview, report, again, exported = opens("run_sample", three, passes, *argv)
    images, masks, cams, labels = (
        {f"{folder}/{name}.png" for name in ("cat", "coffee", "rocket")}
        for folder in ("set/images", "set/masks", "r/cam", "r/cam_pamr")
    )
    for counts, pictures in (
        (evaluated, masks | cams | labels),
        (overview, images | masks | cams | labels),
        (report, images | masks | cams | labels),
        (again, images | masks | cams | labels),
        (exported, labels),  # sizes of images are known since the overview
    ):
        assert {path for path in counts if path.endswith(".png")} == pictures
        assert set(counts.values()) == {1}, counts
    assert {f"r/scores/{name}.csv" for name in ("cam", "cam_pamr", "cam_curves", "cam_pamr_curves")} <= set(report)
    assert {f"r/report_files/{name}.webp" for name in ("cat", "coffee", "rocket")} <= set(again)


def test_of_a_photograph_from_map_to_report(three):
    """Its header once, as largest pictures come first; then once per pass that needs its pixels."""
    argv = ("--sal_dataset_dir", three / "set", "--result_dir", three / "new", "--export", "coco", "--device", "cpu")
    argv += ("--cam_network", "efficientnet_lite0", "--cam_scales", "0.5")
    passes = "make_cam_pass make_label_pass eval_pass overview_pass report_pass export"
    counts = opens("run_sample", three, passes, *argv)
    assert [one.get("set/images/cat.png", 0) for one in counts] == [2, 1, 0, 1, 1, 0]
    assert [one.get("set/masks/cat.png", 0) for one in counts] == [0, 0, 1, 1, 1, 0]
    made = [one.get("new/cam/cat.png", 0) + one.get("new/cam_pamr/cat.png", 0) for one in counts]
    assert made == [1, 2, 2, 2, 2, 1]  # a pass also looks whether what it would write is there


def test_of_a_run_of_classes(tmp_path):
    data, result = write_toy(tmp_path / "toy", num_train=1, num_val=2), tmp_path / "r"
    for path in (data / "SegmentationClass").iterdir():
        label = np.asarray(Image.open(path))
        keys = [value for value in np.unique(label) if 0 < value <= len(CLASS_NAMES)]
        cams = np.stack([cv2.blur(np.float32(label == key), (9, 9)) for key in keys])
        write_cams(result / "cam" / f"{path.stem}.npz", np.array(keys) - 1, cams)
        write_mask(result / "sem_seg" / path.name, np.where(label == 255, 0, label).astype(np.uint8))
    passes = "eval_cam_pass eval_sem_seg_pass report_pass"
    cam, sem_seg, report = opens("run_voc", result, passes, "--data_dir", data, "--result_dir", result)
    names = {path.stem for path in (result / "cam").iterdir()}
    assert len(names) == 3 and all(set(counts.values()) == {1} for counts in (cam, sem_seg, report))
    assert {f"cam/{name}.npz" for name in names} == {path for path in cam if path.endswith(".npz")}
    assert {f"sem_seg/{name}.png" for name in names} == {path for path in sem_seg if path.endswith(".png")}
    assert {f"cam/{name}.npz" for name in names} | {f"sem_seg/{name}.png" for name in names} <= set(report)
