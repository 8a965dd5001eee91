"""Who takes which shards, and what a process of its own is told."""

import pytest

import run_sample
from misc.errors import InputError
from misc.run.shards import flags_of, mine, part_of

SLURM = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "4", "SLURM_ARRAY_TASK_COUNT": "4"}


def test_parts_make_the_whole():
    args = [run_sample.TABLE.resolve({"shard": f"{i}/3", "shard_size": 4}) for i in range(3)]
    assert [mine(one, 26) for one in args] == [[0, 3, 6], [1, 4], [2, 5]]
    assert mine(run_sample.TABLE.resolve({}), 2001) == [0, 1, 2] and mine(args[0], 0) == []


@pytest.mark.parametrize(
    ("text", "env", "part"),
    [
        (None, {}, (0, 1)),
        ("2/5", {"SLURM_ARRAY_TASK_ID": "1"}, (2, 5)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_ID": "1"}, (0, 4)),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_ID": "4"}, (3, 4)),
        ("auto/9", {**SLURM, "SLURM_ARRAY_TASK_ID": "4"}, (4, 9)),  # some of nine tasks, submitted again
        ("auto/8", {"JOB_COMPLETION_INDEX": "7"}, (7, 8)),
    ],
)
def test_which_worker_this_is(text, env, part):
    assert part_of(text, env) == part


@pytest.mark.parametrize(
    ("text", "env", "error"),
    [
        ("3", {}, "neither I/N"),
        ("4/4", {}, "0 to N - 1"),
        ("x/2", {}, "neither I/N"),
        ("auto", {}, "is set; give I/N"),
        ("auto", {"JOB_COMPLETION_INDEX": "7"}, "give auto/N"),
        ("auto/4", {"SLURM_ARRAY_TASK_ID": "4"}, "0 to N - 1"),
        ("auto", {**SLURM, "SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "2"}, "has gaps"),
        ("auto", {"RANK": "1", "WORLD_SIZE": "2"}, "is set; give I/N"),  # torchrun's are left to training
    ],
)
def test_what_says_no_part(text, env, error):
    with pytest.raises(InputError, match=error):
        part_of(text, env)


@pytest.mark.parametrize("given", [{}, {"label_recipe": "published"}, {"label_crf": False, "cam_scales": (1.0,)}])
def test_a_process_of_its_own_has_the_same_flags(given):
    args = run_sample.TABLE.resolve({**given, "num_devices": "2", "shard": "0/2"})
    other, _ = run_sample.TABLE.parse(flags_of(args, device="cuda:1"))
    different = {name for name, value in other.flat().items() if repr(value) != repr(args.flat()[name])}
    assert different == {"num_devices", "shard", "device"}
