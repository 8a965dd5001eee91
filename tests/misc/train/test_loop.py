"""The loop: order, parts of a batch, states, resuming, what is told of a training that cannot go on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from misc.errors import InputError
from misc.run.distributed import Processes
from misc.train.checkpoint import last_state
from misc.train.loop import Group, Length, Optimization, Order, Run, Where, fit, places_of

CPU = torch.device("cpu")


class Toy:
    """Colour of 12 noisy images, by a network with dropout and batch norm: whatever is random shows."""

    def __init__(self, fail_at: int | None = None, poison: float = 0.0):
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 3, 1))
        self.groups = [Group(list(self.net.parameters()))]
        self.fail_at, self.poison, self.steps = fail_at, poison, 0

    def sample(self, index, rng):
        image = np.full((8, 8, 3), 20 * index, np.uint8) + rng.integers(0, 20, (8, 8, 3), dtype=np.uint8)
        return image, np.eye(3, dtype=np.float32)[index % 3]

    def loss(self, image, label):
        if self.steps == self.fail_at:
            raise KeyboardInterrupt
        self.steps += 1
        logits = self.net(image.float() / 255).mean((2, 3))
        return {"loss": nn.functional.cross_entropy(logits, label) + self.poison}


def weigh(step, task, speed):
    """Called with the network in eval mode."""
    assert not task.net.training
    return {"weight": float(task.net[0].weight.detach().sum()), **speed}


LENGTH = Length(num_images=12, batch_size=5, num_steps=9, seed=3)


def train(folder, task=None, how=Optimization(learning_rate=0.05), length=LENGTH, resume=True, **kwargs):  # noqa: B008
    task = task or Toy()
    where = Where(folder / "states", folder / "train.csv", {"colours": (1, 2), "seed": 4}, resume, state_steps=2)
    scores = fit(task, how, length, where, Run(CPU, Processes(), on_epoch=weigh, **kwargs))
    return task.net.state_dict(), scores


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own():
    order = Order(12, seed=1)
    epochs = [[order[i] for i in range(12 * e, 12 * e + 12)] for e in range(3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [Order(12, seed=1)[i] for i in range(12, 24)] == epochs[1]


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_parts_of_a_step_are_its_images(parts):
    length = Length(100, 7, 10)
    places = [p for part in range(parts) for p in places_of(length, 4, part, parts)]
    assert places == list(range(28, 35))


HOWS = (
    Optimization(learning_rate=0.05),
    Optimization("adamw", 0.01, ema=0.9, clip=0.5),
    Optimization(learning_rate=0.05, accumulate=2, warm_up=0.3, schedule="cosine"),
)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(how, stop, tmp_path):
    whole, scores = train(tmp_path / "whole", how=how)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", Toy(fail_at=stop * how.accumulate), how)
    resumed = Toy()
    weights, resumed_scores = train(tmp_path / "parts", resumed, how, num_workers=3)
    assert same(whole, weights)
    assert resumed.steps == (9 - stop // 2 * 2) * how.accumulate
    assert scores["weight"] == resumed_scores["weight"]
    lines = [(tmp_path / run / "train.csv").read_text().splitlines() for run in ("whole", "parts")]
    without_speed = [[line.rsplit(",", 2)[0] for line in part] for part in lines]
    assert without_speed[0] == without_speed[1]


def test_a_finished_training_is_not_repeated(tmp_path):
    whole, scores = train(tmp_path)
    again = Toy()
    weights, kept = train(tmp_path, again)
    assert again.steps == 0 and same(whole, weights) and kept == scores


def test_accumulated_forwards_give_the_gradient_of_the_whole_batch(tmp_path):
    class Plain(Toy):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(3, 3, 3))
            torch.manual_seed(1)
            nn.init.normal_(self.net[0].weight)
            self.groups = [Group(list(self.net.parameters()))]

    one, three = (train(tmp_path / str(n), Plain(), Optimization(learning_rate=0.1, accumulate=n))[0] for n in (1, 3))
    for key, value in one.items():
        torch.testing.assert_close(value, three[key], rtol=1e-5, atol=1e-6)


def test_a_damaged_state_is_passed_over(tmp_path, capsys):
    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "hurt", Toy(fail_at=7))
    states = sorted((tmp_path / "hurt" / "states").iterdir())
    assert [p.name for p in states] == ["step_4.pth", "step_6.pth"]
    states[1].write_bytes(states[1].read_bytes()[:500])
    weights, _ = train(tmp_path / "hurt")
    assert same(whole, weights)
    assert "step_6.pth is damaged" in capsys.readouterr().err


def test_a_full_disk_keeps_the_states_that_are_there(tmp_path, monkeypatch, capsys):
    import misc.train.checkpoint

    whole, _ = train(tmp_path / "whole")
    write, calls = misc.train.checkpoint._write, []

    def full(state, path):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half of")
            raise OSError(28, "No space left on device")
        write(state, path)

    monkeypatch.setattr(misc.train.checkpoint, "_write", full)
    weights, _ = train(tmp_path / "full")
    assert same(whole, weights)
    assert "No space left" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "full" / "states").iterdir()} == {"step_8.pth", "step_9.pth"}


def test_other_settings_do_not_touch_a_state(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match=r"rate 0.05 -> 0.2.*--resume False"):
        train(tmp_path, how=Optimization(learning_rate=0.2))
    task = Toy()
    train(tmp_path, task, Optimization(learning_rate=0.2), resume=False)
    assert task.steps == 9


def test_start_weights_are_one_file_however_they_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def train_from(weights, **kwargs):
        where = Where(tmp_path / "states", tmp_path / "train.csv", {"weights": weights}, True, 2)
        fit(task := Toy(), Optimization(), LENGTH, where, Run(CPU, Processes()))
        return task.steps

    assert train_from(Path("w.pth")) == 9 and train_from(tmp_path / "w.pth") == 0
    for other in (Path("v.pth"), None):
        with pytest.raises(InputError, match=r"weights w.pth -> (v.pth|None)"):
            train_from(other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_training_in_16_bits_ends_near_one_in_32_and_resumes(dtype, tmp_path):
    """float16 has gradients below its range: the loss is scaled, and the scale is in the states."""
    if dtype == torch.float16:
        scales = []
        step = torch.amp.GradScaler.step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.amp.GradScaler, "step", lambda s, o: scales.append(s.get_scale()) or step(s, o))
            half, _ = train(tmp_path / "half", mixed=dtype)
        assert min(scales) > 1
    else:
        half, _ = train(tmp_path / "half", mixed=dtype)
    full, _ = train(tmp_path / "full")
    moved = max(float((full[k] - v).abs().max()) for k, v in Toy().net.state_dict().items() if "weight" in k)
    assert all(float((full[k].float() - v.float()).abs().max()) < 0.2 * moved for k, v in half.items() if "weight" in k)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", Toy(fail_at=5), mixed=dtype)
    assert bool(last_state(tmp_path / "killed" / "states")["scaler"]) == (dtype == torch.float16)
    assert same(train(tmp_path / "killed", mixed=dtype)[0], half)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path):
    with pytest.raises(InputError, match="the loss is nan at step 1"):
        train(tmp_path, Toy(poison=float("nan")))


def test_an_unreadable_image_is_named(tmp_path):
    class Unreadable(Toy):
        def sample(self, index, rng):
            raise OSError("cat.jpg: is truncated")

    with pytest.raises(InputError, match="cat.jpg: is truncated"):
        train(tmp_path, Unreadable())


def test_a_batch_that_cannot_be_shared(tmp_path):
    with pytest.raises(InputError, match="cannot be shared by 6"):
        train(tmp_path, how=Optimization(accumulate=6))


def test_what_is_logged_of_an_epoch(tmp_path):
    task, told = Toy(), []
    run = Run(CPU, Processes(), on_epoch=lambda *given: told.append(given) or {"step": given[0]})
    assert fit(task, Optimization(), LENGTH, Where(tmp_path / "x", tmp_path / "x.csv", {}), run) == {"step": 9}
    assert [step for step, *_ in told] == [3, 6, 9]
    assert all(given is task and speed.keys() == {"images_per_s"} for _, given, speed in told)
    without = Run(CPU, Processes())
    scores = fit(Toy(), Optimization(), LENGTH, Where(tmp_path / "y", tmp_path / "y.csv", {}), without)
    assert scores.keys() == {"images_per_s"}


def test_a_state_says_what_its_weights_depend_on(tmp_path):
    """A run goes on only from a state that says the same: with other names here no state of before would do."""
    train(tmp_path)
    assert last_state(tmp_path / "states")["identity"] == {
        **{"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "poly"},
        **{"warm_up": 0.0, "clip": 0.0, "ema": 0.0, "accumulate": 1, "num_images": 12, "batch_size": 5, "num_steps": 9},
        **{"seed": 4, "colours": "(1, 2)"},
    }
