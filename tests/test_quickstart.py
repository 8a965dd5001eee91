"""The notebook runs to its end, its neighbours in docs/ hold, the Dockerfile could be built."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.foreign.commands import disc, export_labels, photos, save

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
# the cells one after the other, in one namespace; the value of a cell's last line is what a notebook shows
DRIVER = """
import ast, itertools, json, sys
pictures = itertools.count()
cells = json.loads(open(sys.argv[1], encoding="utf-8").read())["cells"]
space = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        body = ast.parse("".join(cell["source"])).body
        shown = body.pop() if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), "cell", "exec"), space)
        value = eval(compile(ast.Expression(shown.value), "cell", "eval"), space) if shown else None
        if hasattr(value, "save"):
            value.convert("RGB").resize((64, 64)).save(f"{sys.argv[2]}/{next(pictures)}.png")
        elif value is not None:
            print(value)
"""


def test_the_notebook_runs_to_its_end(tmp_path):
    started, environment = time.monotonic(), os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    shutil.copytree(ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".*", "result", "tests", "__pycache__"))
    command = [sys.executable, "-c", DRIVER, str(NOTEBOOK), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path / "clone" / "docs", env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert time.monotonic() - started < 180
    assert "'sal': ((" in done.stdout and "3 labels of" in done.stdout and "as labelme in" in done.stdout
    assert len([*tmp_path.glob("*.png")]) == 3  # what it shows
    assert len([*(tmp_path / "clone/result/quickstart/export/labelme/cam_pamr").glob("*.json")]) == 3


def test_the_notebook_is_a_clean_one():
    held = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (held["nbformat"], held["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in held["cells"])


def instructions():
    """Of the Dockerfile: (instruction, its words)."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [tuple(line.split(None, 1)) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_dockerfile_names_what_is_there():
    found = instructions()
    assert [what for what, _ in found][:2] == ["ARG", "FROM"] and found[1][1] == "${BASE}"
    assert found[0][1] == "BASE=python:3.12-slim"  # the CPU's; others by --build-arg BASE
    copied = [words.split()[:-1] for what, words in found if what == "COPY"]
    assert all((ROOT / source).exists() for sources in copied for source in sources) and len(copied) == 2
    (command,) = [json.loads(words) for what, words in found if what == "CMD"]
    assert (ROOT / command[0]).is_file() and dict(found)["ENTRYPOINT"] == '["python"]' and "USER" in dict(found)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"run_sample.py", "net", "data", "misc", "pgt", "step", "requirements.txt"} & set(ignored)


def test_coco_polygons_become_tasks_of_label_studio(tmp_path):
    name = "label_studio_sdk.converter.imports.coco"
    coco = pytest.importorskip(name, reason="label-studio-sdk is not installed (tests/foreign/requirements.txt)")
    folder = photos(tmp_path / "photos", "x.jpg", "y.png")
    for stem in ("x", "y"):
        save(tmp_path / "labels" / f"{stem}.png", disc() * np.uint8(255))
    argv = ("--pred_dir", tmp_path / "labels", "--image_dir", folder, "--out_dir", tmp_path / "o")
    assert export_labels(*argv, "--format", "coco", "--shapes", "polygons") == 0
    coco.convert_coco_to_ls(
        str(tmp_path / "o/instances.json"), str(tmp_path / "tasks.json"), image_root_url="/?d=photos"
    )
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == ["/?d=photos/x.jpg", "/?d=photos/y.png"]
    shapes = [one for task in tasks for a in task["annotations"] for one in a["result"] if "points" in one["value"]]
    assert [one["value"]["polygonlabels"] for one in shapes] == [["salient object"]] * 2


def test_the_dockerfile_is_lint_free():
    here = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if not (hadolint := shutil.which("hadolint", path=here)):
        pytest.skip("hadolint is not installed (requirements-test.txt)")
    done = subprocess.run([hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert not done.returncode, done.stdout
