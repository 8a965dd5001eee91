"""run_serve.py as a person starts and ends it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run_serve
from labeller import Labeller

ROOT = Path(__file__).resolve().parent.parent
FLAGS = {"cam_network": "efficientnet_lite0", "cam_scales": "1.0", "label_pamr_num_iter": "1", "device": "cpu"}


@pytest.fixture
def running(tmp_path):
    """-> the process, and its address."""
    words = [f"--{name}={value}" for name, value in FLAGS.items()]
    command = [sys.executable, "run_serve.py", "--port", "0", "--max_mb", "1", f"--result_dir={tmp_path}", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if found := re.match(r"open (http://127\.0\.0\.1:\d+/) in a browser", line):
                yield process, found[1]
                break
        else:
            raise AssertionError(f"it ended: {process.wait()}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_picture_gets_the_labels_of_a_labeller_and_ctrl_c_ends_it(running, photographs, tmp_path):
    process, address = running
    file = io.BytesIO()
    Image.fromarray(photographs.cat[::3, ::3]).save(file, "PNG")
    with urllib.request.urlopen(urllib.request.Request(f"{address}label", file.getvalue())) as answer:
        told = json.load(answer)
    flags = {**FLAGS, "cam_scales": (1.0,), "label_pamr_num_iter": 1}
    wanted = Labeller(**flags, result_dir=tmp_path)(photographs.cat[::3, ::3])
    for kind in told["kinds"]:
        with urllib.request.urlopen(f"{address}{told['id']}/{kind}.png") as answer:
            np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.read()))), wanted[kind])
    assert told["kinds"] == ["cam", "cam_pamr", "cam_slic", "sal"] and [*tmp_path.iterdir()] == []
    if os.name != "nt":
        assert "labelled in" in process.stdout.readline()
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "ended\n" and time.monotonic() - started < 2
        assert process.wait(60) == 130


def test_bad_flags_are_one_line(capsys):
    for flag, value, told in (("port", "70000", ": give a number"), ("cam_network", "x", ": unknown")):
        assert run_serve.main([f"--{flag}", value]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: --{flag} {value}{told}") and error.count("\n") == 1
