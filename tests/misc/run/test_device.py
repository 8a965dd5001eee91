"""Devices by name, and what each likes."""

import pytest
import torch

from misc.errors import InputError
from misc.run import device as module
from misc.run.device import autocast, batch_size_for, facts_of, in_turns, pick_device
from misc.run.distributed import together


def test_devices_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99", "xpu:77"):
        with pytest.raises(InputError, match=f"--device {name}: not usable here"):
            pick_device(name)


def test_what_a_device_likes():
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 1)
    assert (batch_size_for(cpu, 0), batch_size_for(cuda, 0), batch_size_for(cuda, 3)) == (1, 8, 3)
    assert facts_of(cuda).backend == "nccl" and facts_of(cpu).backend == "gloo"
    with autocast(cpu):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("rank", "processes", "index"), [(0, 1, 2), (1, 2, 1)])
def test_a_training_sets_a_device_with_an_index(rank, processes, index, monkeypatch):
    """torch.cuda.set_device refuses a device without one: every training on a GPU ended so."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *args, **kwargs: None)
    for name, value in {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    with together(torch.device("cuda", 2)) as (_, device):
        assert device == torch.device("cuda", index) and chosen == [device]


def test_a_new_kind_of_device_is_a_row(monkeypatch):
    monkeypatch.setitem(module._FACTS, "cpu", module.DeviceFacts(torch.bfloat16, 5))
    assert batch_size_for(torch.device("cpu"), 0) == 5
    with autocast(torch.device("cpu")):
        assert torch.is_autocast_enabled("cpu")


def test_threads_take_turns_without_gradients():
    weight = torch.ones(1, requires_grad=True)
    assert not in_turns(lambda x: x * weight, torch.device("cpu"))(2).requires_grad
