"""How commands end: Ctrl-C within two seconds, whatever computes; a pipe that nobody reads on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from misc.run.ending import PATIENCE, answered

ROOT = Path(__file__).resolve().parents[3]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
WITHIN = 5.0  # seconds, of a machine with other work; every work here takes 20 at least
MESSAGE = "interrupted: the same command continues where it was\n"
posix = pytest.mark.skipif(os.name == "nt", reason="a test cannot press Ctrl-C on Windows")

WORKS = {
    "python": "while True: pass",
    "a task of a thread, and many that wait": """
from misc.run.parallel import parallel_map
list(parallel_map(lambda _: time.sleep(20), range(50), 2))
""",
    "a long step in C": """
import numpy as np
a = np.random.default_rng(0).random((9000, 9000))
a @ a @ a @ a
""",
}


@posix
@pytest.mark.parametrize("work", WORKS)
def test_ctrl_c_is_answered_whatever_computes(work, tmp_path):
    code = f"""
import sys, time
from misc.run.ending import answered
def work():
    print("begun", flush=True)
    {WORKS[work].strip().replace(chr(10), chr(10) + "    ")}
    return 0
sys.exit(answered(work))
"""
    seconds, status, err = interrupted([sys.executable, "-c", code], tmp_path)
    assert seconds < WITHIN and (status, err) == (130, MESSAGE)


@posix
def test_what_is_half_written_goes_when_the_process_is_ended(tmp_path):
    """The main thread waits for a thread that writes and does not end."""
    code = """
import sys, time
from pathlib import Path
from misc.files.store import replacing
from misc.run.ending import answered
from misc.run.parallel import parallel_map
def write(i):
    with replacing(Path(f"out{i}.bin")) as part:
        part.write_bytes(b"half")
        sys.stdout.write("begun\\n")  # as one: the other thread writes too
        sys.stdout.flush()
        time.sleep(20)
sys.exit(answered(lambda: list(parallel_map(write, range(8), 2)) and 0))
"""
    seconds, status, err = interrupted([sys.executable, "-c", code], tmp_path)
    assert seconds < WITHIN and (status, err) == (130, MESSAGE) and not [*tmp_path.iterdir()]


@posix
def test_an_impatient_second_ctrl_c_leaves_no_traceback(tmp_path):
    code = """
import sys, time
from misc.run.ending import answered
from misc.run.parallel import parallel_map
print("begun", flush=True)
sys.exit(answered(lambda: list(parallel_map(lambda _: time.sleep(20), range(8), 2)) and 0))
"""
    seconds, status, err = interrupted([sys.executable, "-c", code], tmp_path, times=3)
    assert seconds < WITHIN and (status, err) == (130, MESSAGE)


def hear_ctrl_c():
    """Also where these tests run in the background, which hears none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(command, folder, times=1):
    """-> seconds from Ctrl-C to the end, exit status, and what went to stderr."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=ENV, cwd=folder, preexec_fn=hear_ctrl_c, **pipes)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    started = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, err = process.communicate(timeout=30)
    return time.monotonic() - started, process.returncode, err


def test_signals_are_as_they_were_afterwards():
    assert PATIENCE <= 1
    before = signal.getsignal(signal.SIGINT)
    assert answered(lambda: 3) == 3 and signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1

    def interrupt():
        raise KeyboardInterrupt

    for handler in (before, signal.SIG_IGN):  # in the background nobody can press it
        signal.signal(signal.SIGINT, handler)
        assert answered(interrupt) == 130 and signal.getsignal(signal.SIGINT) is handler
    signal.signal(signal.SIGINT, before)


@posix
@pytest.mark.parametrize("command", ["run_sample.py --help_all", "run_voc.py --help", "-m step.eval --help_all"])
def test_a_reader_that_goes_away_is_no_error(command):
    process = subprocess.Popen(
        [sys.executable, *command.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENV, cwd=ROOT
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


@posix
def test_a_python_that_is_typed_into_lives_on(tmp_path):
    code = """
import sys, time
from misc.run.ending import answered
sys.ps1 = ">>> "
def work():
    print("begun", flush=True)
    time.sleep(20)
assert answered(work) == 130
print("alive", file=sys.stderr)
"""
    _, status, err = interrupted([sys.executable, "-c", code], tmp_path)
    assert (status, err) == (0, MESSAGE + "alive\n")
