"""run_cluster.py on a cluster of three virtual machines, of which two are lost, and the driver too."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.test_run_shards import ALL, ROOT, command, contents, folder, markers, plain  # noqa: F401

SCRIPT = [sys.executable, str(ROOT / "run_cluster.py")]


def start(*words):
    return subprocess.run([*SCRIPT, *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["run_odd.py"], "run_odd is no script to run; give one of run_sample"),
        ([], ""),
        (["run_sample.py", "--address"], "--address needs a value"),
        (["run_sample.py", "--num_actors", "x"], "--num_actors x: is not a whole number"),
        (["run_sample.py", "photos", "--num_devices=2"], "--num_devices: is of one machine; give --num_actors"),
    ],
)
def test_bad_input_is_one_clear_line(words, text):
    done = start(*words)
    assert (done.returncode == 0) == (not words) and text in done.stderr and done.stderr.count("\n") == bool(words)


def test_without_ray_a_line_says_what_to_install(folder, tmp_path):  # noqa: F811
    (tmp_path / "ray.py").write_text("raise ImportError('not here')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*SCRIPT, "run_sample.py", str(folder)], capture_output=True, text=True, env=env)
    assert done.returncode == 2 and "pip install -r requirements-cluster.txt" in done.stderr


@pytest.fixture
def cluster():
    pytest.importorskip("ray", reason="needs requirements-cluster.txt")
    from ray.cluster_utils import Cluster

    held = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    held.machines = [held.add_node(num_cpus=1) for _ in range(3)]
    held.wait_for_nodes()
    yield held
    held.shutdown()


def test_machines_and_the_driver_are_lost(cluster, folder, plain, tmp_path):  # noqa: F811
    words = command(folder, "--result_dir", tmp_path, "--shard_size", "1", "--report_pass", "False")[1:]
    argv = [*SCRIPT, *words, "--address", cluster.address]
    done = lambda: len(list(tmp_path.glob("runs/make_slic-1/*.json")))  # noqa: E731
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for machine, number in ((cluster.machines[0], 2), (cluster.machines[1], 4), (None, 6)):
        deadline = time.time() + 300
        while done() < number and process.poll() is None and time.time() < deadline:
            time.sleep(0.02)
        if machine is None:
            process.send_signal(signal.SIGKILL)
        else:
            cluster.remove_node(machine, allow_graceful=False)
    process.wait()
    assert 6 <= done() < 10
    again = subprocess.run(argv, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path) == plain
    assert markers(tmp_path) == sorted((name, k) for name in {name for name, _ in ALL} for k in range(10))
