"""README.md, benchmarks/README.md and docs/: commands that run as printed, files that are there, few words."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run_sample
import run_slic
import run_voc
from misc.run.flags import Table

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "benchmarks/README.md", "docs/annotation_tools.md", "docs/scale.md", "docs/pieces.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in FILES}
README = TEXTS["README.md"]
COMMAND = re.compile(
    r"(?:python (?:-m |run_cluster\.py )?|torchrun --nproc-per-node \d+ (?:--max-restarts \d+ )?)?"
    r"(run_(?!cluster)\w+\.py|(?:step|data|benchmarks)\.\w+)(.*)"
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STAND_ALONE = ("step.eval", "step.eval_sem_seg", "step.export", "step.make_seg", "data.prepare")
TENSORS = "import torch; torch.manual_seed(0)\n"
INPUTS = """
net = torch.nn.Conv2d(3, 4, 3)
image = rgb = torch.rand(2, 3, 24, 32)
label = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
"""
IMAGES = "images = 255 * torch.rand(1, 3, 64, 64)\n"


def spans(text):
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def fences(text, language=""):
    return [body for name, body in FENCE.findall(text) if name == language]


def lines(text):
    """Of the fences, without comments."""
    return [re.split(r"\s#\s", line)[0].strip() for fence in fences(text) for line in fence.splitlines()]


def commands():
    """(run_x or module, its words) of all that is printed, each once."""
    printed = [line for text in TEXTS.values() for line in lines(text) + spans(text)]
    found = [m for line in printed for part in line.split("&&") if (m := COMMAND.fullmatch(part.strip()))]
    return sorted({(m[1].removesuffix(".py"), m[2].strip()) for m in found})


class Taken(Exception):
    """Carries the table of a command."""


def table_of(module, monkeypatch):
    def take(table, argv=None):
        raise Taken(table)

    entry = getattr(module, "parse", None) or module.main
    with monkeypatch.context() as patched, pytest.raises(Taken) as taken:
        patched.setattr(Table, "parse", take)
        entry([])
    return taken.value.args[0]


def flags_of_benchmark(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [module.__name__, "--help"])
    with pytest.raises(SystemExit):
        module.main()
    return set(re.findall(r"--\w+", capsys.readouterr().out))


@pytest.mark.parametrize(("target", "words"), commands(), ids=map(" ".join, commands()))
def test_a_printed_command_is_there_and_knows_its_flags(target, words, monkeypatch, capsys):
    module, words = importlib.import_module(target), shlex.split(words)
    if target.startswith("benchmarks."):
        assert {w for w in words if w.startswith("--")} <= flags_of_benchmark(module, monkeypatch, capsys)
    elif "..." in words:  # something is left to the reader
        table_of(module, monkeypatch).given([w for w in words if w != "..."])
    else:
        table_of(module, monkeypatch).parse(words)


def test_every_way_to_run_something_is_printed():
    printed = {target for target, _ in commands()}
    benchmarks = {f"benchmarks.{p.stem}" for p in (ROOT / "benchmarks").glob("*.py") if "__main__" in p.read_text()}
    scripts = {path.stem for path in ROOT.glob("run_*.py")} - {"run_cluster"}  # which runs the others
    assert "python run_cluster.py run_sample.py" in TEXTS["docs/scale.md"]
    assert printed == benchmarks | scripts | set(STAND_ALONE)


def test_flags_that_are_named_are_flags(monkeypatch):
    known = {"help", "help_all", "address", "num_actors"}  # the last two of run_cluster.py
    for target in ("run_sample", "run_slic", "run_voc", "run_coco", "run_serve", *STAND_ALONE):
        known |= table_of(importlib.import_module(target), monkeypatch).resolve({}).places.keys()
    named = {flag for text in TEXTS.values() for span in spans(text) for flag in re.findall(r"^--(\w+)", span)}
    assert len(named) > 15 and named <= known


@pytest.mark.parametrize("name", FILES)
def test_links_and_files_are_there(name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]+)#?([^)]*)\)", TEXTS[name]):
        path = (ROOT / name).parent / target
        assert path.is_file(), target
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    for span in spans(TEXTS[name]):
        if re.fullmatch(r"[\w./]+\.(py|md|cff|txt|toml)", span):
            assert (ROOT / span).is_file(), span


def test_folders_are_there_and_all_are_named():
    named = spans(README.partition("## Folders")[2].partition("\n## ")[0])
    assert all((ROOT / name).is_dir() or (ROOT / "misc" / name).is_dir() for name in named)
    assert {f"{path.parent.name}/" for path in ROOT.glob("*/__init__.py")} <= set(named)


def test_the_picture_shows_every_pass_that_makes_something():
    picture = (ROOT / "data" / "sample" / "pipelines.svg").read_text(encoding="utf-8")
    passes = {name: one for script in (run_sample, run_slic, run_voc) for name, one in script.PASSES.items()}
    assert not [name for name, one in passes.items() if one.makes and name.removesuffix("_pass") not in picture]


def test_it_is_short():
    assert len(README.split()) <= 1900


@pytest.mark.parametrize(
    "command",
    [
        "python -m pip install -r requirements.txt && python run_sample.py",
        "python -m pip install -r requirements-test.txt && python -m pytest",
    ],
)
def test_the_two_commands_are_lines_of_their_own(command):
    last = command.partition("&& ")[2]  # what .ci/run looks for; the first line that holds it
    found = re.findall(rf"^python -m pip install .*{re.escape(last)}.*$", README, re.MULTILINE)
    assert found == [command]
    assert (ROOT / shlex.split(command)[5]).is_file()


def run_python(code, folder, path):
    environment = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("number", range(4))
def test_the_pieces_run_as_printed(number, tmp_path):
    """Those of pgt from another folder, with pgt alone on the path."""
    pieces = fences(README, "python") + fences(TEXTS["docs/pieces.md"], "python")
    assert len(pieces) == 4
    if "labeller" in pieces[number]:
        shutil.copy(ROOT / "data" / "sample" / "masks" / "coffee.png", tmp_path / "photo.jpg")
        shows = (
            "\nassert all(found[k].shape == found['image'].shape[:2] for k in ('cam', 'cam_pamr', 'cam_slic', 'sal'))"
        )
        run_python(pieces[number] + shows, tmp_path, ROOT)
    elif "from net" in pieces[number]:
        shows = "\nassert logits.shape == cam.shape[:2] == (1, 1000) and len(sha256) == 64"
        run_python(TENSORS + IMAGES + pieces[number] + shows, ROOT, ROOT)
    else:
        shutil.copytree(ROOT / "pgt", tmp_path / "path" / "pgt", ignore=shutil.ignore_patterns("__pycache__"))
        shows = "\nloss.backward()" if "loss = " in pieces[number] else ""
        run_python(TENSORS + INPUTS + pieces[number] + shows, tmp_path, tmp_path / "path")
