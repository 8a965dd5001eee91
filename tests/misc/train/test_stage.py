"""The tail of a training: what recipes say, what lies on disk afterwards, what is told of files that are missing."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from misc.errors import InputError
from misc.files.store import read_json
from misc.run.flags import Course, Device, Run, Table, Training
from misc.train.checkpoint import last_state
from misc.train.loop import Group, Length, Optimization
from misc.train.stage import Stage, length_of, optimization_of, require_files, start_of, train, trained_file


@dataclass(frozen=True)
class Recipe:
    batch_size: int = 4
    num_epoches: float = 1.5
    learning_rate: float = 0.1
    clip: float = 2.0


class Mean:
    """Networks whose output becomes 0."""

    def __init__(self, net):
        assert net.weight.is_contiguous(memory_format=torch.channels_last)
        self.net, self.groups = net, [Group(list(net.parameters()))]

    def sample(self, index, rng):
        return (np.full((2, 2, 3), index, np.float32),)

    def loss(self, image):
        return {"loss": self.net(image).square().mean()}


def args(folder):
    run = Run(result_dir=folder, num_workers=1, quiet=True)
    return Table("", (Training(seed=3, accumulate=2), Course(), run, Device("cpu"))).resolve({})


def save(path, network):
    path.write_bytes(network.weight.detach().numpy().tobytes())


def test_what_a_recipe_says():
    assert optimization_of(Recipe(), 2) == Optimization(learning_rate=0.1, clip=2.0, accumulate=2)
    assert length_of(Recipe(), 8, 3) == Length(8, 4, num_steps=3, seed=3)
    assert length_of(Recipe(num_epoches=0.1), 8, 3).num_steps == 1
    for given, expected in ((7, 7), (0, 3)):
        recipe = Namespace(**vars(Recipe()), num_steps=given)
        assert length_of(recipe, 8, 3).num_steps == expected


def test_a_training_leaves_what_it_says(tmp_path, capsys):
    started = []
    stage = Stage("toy", Recipe(), 8, {"classes": ("a", "b")}, save)
    for _ in range(2):  # the second one goes on from the end of the first
        scores = train(stage, args(tmp_path), lambda: started.append(nn.Conv2d(3, 4, 2)) or started[-1], Mean)
    assert (tmp_path / "ckpt" / "toy.pth").read_bytes() == started[1].weight.detach().numpy().tobytes()
    assert len(read_json(tmp_path / "settings" / "train_toy.json")["sha256"]) == 64
    assert torch.equal(*(net.weight for net in started))
    assert (tmp_path / "train_toy.csv").is_file()
    identity = last_state(tmp_path / "ckpt" / "train_toy")["identity"]
    assert identity["num_epoches"] == 1.5 and identity["num_steps"] == 3 and identity["classes"] == "('a', 'b')"
    line = f"train_toy: images_per_s {scores['images_per_s']:.4g}; {tmp_path / 'ckpt' / 'toy.pth'}"
    assert capsys.readouterr().out.splitlines() == [line, line]


def test_out_of_memory_names_the_flags_to_lower(tmp_path):
    class Large(Mean):
        def loss(self, image):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    with pytest.raises(
        InputError, match=r"^out of memory .*: raise --accumulate, or lower --toy_batch_size or --toy_c"
    ):
        train(Stage("toy", Recipe(), 8, {}, save), args(tmp_path), lambda: nn.Conv2d(3, 4, 2), Large)


def test_the_seed_makes_the_start(tmp_path):
    starts = []
    for name in ("one", "two"):
        stage = Stage(name, Recipe(), 8, {}, save, csv=f"{name}.csv")
        train(stage, args(tmp_path), lambda: starts.append(torch.rand(3)) or nn.Conv2d(3, 4, 2), Mean)
    torch.manual_seed(3)
    assert torch.equal(starts[0], torch.rand(3)) and torch.equal(*starts) and (tmp_path / "two.csv").is_file()


def test_where_a_stage_starts(tmp_path):
    checked = []

    def start(**more):
        given = {"seam_network": "a", "seam_weights": "a.pth", "aff_network": None, "aff_weights": None, **more}
        return start_of(Namespace(result_dir=tmp_path, **given), "aff", lambda *what: checked.append(what))

    assert start() == ("a", "a.pth") and start(aff_weights="own.pth") == ("a", Path("own.pth"))
    assert start(aff_network="a") == ("a", "a.pth") and start(aff_network="b") == ("b", None)
    assert checked[0] == ("a", "--seam_network", "--aff_weights", "a.pth")
    assert checked[-1] == ("b", "--aff_network", "--aff_weights", None)
    with pytest.raises(InputError, match=r"seam\.pth is missing: run train_seam, or give --aff_weights FILE"):
        start(aff_weights="seam")


def test_files_that_are_missing_are_named_with_the_pass_that_makes_them(tmp_path):
    with pytest.raises(InputError, match=r"toy\.pth is missing: run train_toy, or give --x FILE"):
        trained_file(args(tmp_path), "toy", "x")
    made = tmp_path / "ckpt" / "toy.pth"
    made.parent.mkdir()
    made.touch()
    assert trained_file(args(tmp_path), "toy", "x") == made
    require_files([made], "maps", "make_maps")
    with pytest.raises(InputError, match=r"2 maps are missing, .*a for one: run make_maps \(--make_maps_pass\)"):
        require_files([made, tmp_path / "a", tmp_path / "b"], "maps", "make_maps")
