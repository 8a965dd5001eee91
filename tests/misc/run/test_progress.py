"""Lines in a log, bars on a terminal, silence where it is wanted; by a command whose output goes to a file too."""

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from data.toy import write_toy
from misc.run.progress import SILENT, Progress, Talk, progress, talk_of

ROOT = Path(__file__).resolve().parents[3]
LINE = re.compile(
    r"train_seam: (\d+) of (\d+) steps, (?:loss ([\d.]+), .*)?[\d.]+ steps/s, (?:[\d:]+|unknown time) left, in .*"
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("flags", "stream", "way"),
    [
        ({}, Terminal, "bar"),
        ({}, io.StringIO, "lines"),
        ({"progress": "lines"}, Terminal, "lines"),
        ({"progress": "bar"}, io.StringIO, "bar"),
        ({"progress": "off"}, Terminal, "off"),
        ({"quiet": True, "progress": "lines"}, Terminal, "off"),
    ],
)
def test_who_watches_decides(flags, stream, way, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream())
    args = SimpleNamespace(**{"quiet": False, "progress": "auto", "progress_seconds": 30.0, **flags})
    assert talk_of(args).way == way


def test_of_several_processes_the_first_talks_alone(monkeypatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    args = SimpleNamespace(quiet=False, progress="lines", progress_seconds=30.0)
    assert talk_of(args) is SILENT


def test_lines_come_by_the_clock_and_not_by_the_work(capsys):
    """One item that takes long is told of, too."""
    for _ in progress([1], 1, "slow", Talk("lines", 0.02)):
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3 and set(lines) == {"slow: 0 of 1 img, 0 img/s, unknown time left"}


def test_a_line_tells_how_long_it_will_take(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("misc.run.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    told = Progress(40, "train_x", Talk("lines"), "steps", done=20, tail=", in train_x.csv")
    now[0] += 50
    told.update(5)
    told.note("loss 0.5")
    assert told.line() == "train_x: 25 of 40 steps, loss 0.5, 0.1 steps/s, 02:30 left, in train_x.csv"
    load = Progress(3 << 20, "a.zip", Talk("lines"), "B", scaled=True)
    now[0] += 2
    load.update(1 << 20)
    assert load.line() == "a.zip: 1.00M of 3.00M B, 512k B/s, 00:04 left"


def test_off_is_silent(capsys):
    assert [*progress([1, 2], 2, "x", SILENT)] == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_training_that_is_piped_into_a_file_tells_how_far_it_is(tmp_path):
    data = write_toy(tmp_path / "toy", num_train=4, num_val=1)
    command = [sys.executable, "run_voc.py", "--data_dir", data, "--result_dir", tmp_path / "r", "--device", "cpu"]
    command += ["--preset", "small", "--seam_crop_size", "96", "--seam_batch_size", "2", "--seam_num_epoches", "4"]
    command += ["--tensorboard", "False", "--progress_seconds", "0.1"]
    command += [f"--{name}_pass=False" for name in ("make_cam", "make_crf", "eval_cam", "train_aff", "make_sem_seg")]
    command += [f"--{name}_pass=False" for name in ("eval_sem_seg", "train_seg", "make_seg", "eval_seg", "report")]
    with (tmp_path / "log").open("w") as log:
        status = subprocess.run(
            list(map(str, command)), stdout=log, stderr=log, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        ).returncode
    text = (tmp_path / "log").read_text()
    assert status == 0, text
    found = [LINE.fullmatch(line) for line in text.splitlines() if " left, in" in line]
    assert len(found) >= 3 and all(found), text
    assert "train_seam.csv" in text and {m[2] for m in found} == {"8"}
    steps = [int(m[1]) for m in found]
    assert steps == sorted(steps) and any(m[3] for m in found)
    assert "\r" not in text and "now in " in text
