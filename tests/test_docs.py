"""The files in docs/: what a scheduler is told is what the scripts take."""

import re
import shlex
import subprocess
from pathlib import Path
from shutil import which

import pytest

import run_sample
from misc.run.shards import part_of

CLUSTER = Path(__file__).resolve().parent.parent / "docs" / "cluster"
ENVIRONMENT = {
    "slurm.sbatch": {
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_MIN": "0",
        "SLURM_ARRAY_TASK_MAX": "15",
        "SLURM_ARRAY_TASK_COUNT": "16",
    },
    "kubernetes.yaml": {"JOB_COMPLETION_INDEX": "3"},
    "skypilot.yaml": {},
}
PARTS = {"slurm.sbatch": (3, 16), "kubernetes.yaml": (3, 16), "skypilot.yaml": (0, 4)}


def test_each_file_has_its_test():
    assert {path.name for path in CLUSTER.iterdir()} == set(ENVIRONMENT)


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_the_command_is_one_that_the_script_takes(name):
    text = (CLUSTER / name).read_text()
    found = re.findall(r"python run_sample\.py ([^\"\n]+)", text)
    assert found
    for words in found:
        given = run_sample.TABLE.given(shlex.split(words.replace("$SHARD", "0/4")))
        assert run_sample.TABLE.resolve(given).manifest is not None
    first = run_sample.TABLE.given(shlex.split(found[0].replace("$SHARD", "0/4")))
    assert part_of(first["shard"], ENVIRONMENT[name]) == PARTS[name]


@pytest.mark.parametrize("name", [name for name in ENVIRONMENT if name.endswith(".yaml")])
def test_it_is_yaml(name):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with requirements-cluster.txt")
    held = yaml.safe_load((CLUSTER / name).read_text())
    if name == "kubernetes.yaml":
        spec = held["spec"]
        assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"] == 16
        assert "auto/16" in spec["template"]["spec"]["containers"][0]["args"][0]
    else:
        assert {"run", "setup", "resources", "envs"} <= held.keys()


@pytest.mark.skipif(which("bash") is None, reason="there is no bash")
def test_the_batch_script_is_one():
    bash = subprocess.run(["bash", "-n", str(CLUSTER / "slurm.sbatch")], capture_output=True, text=True)
    assert bash.returncode == 0, bash.stderr
    options = re.findall(r"^#SBATCH --([a-z-]+)", (CLUSTER / "slurm.sbatch").read_text(), re.MULTILINE)
    assert {"array", "requeue", "gpus"} <= set(options)
