"""Devices by name, and what each likes."""

import os
from types import SimpleNamespace

import pytest
import torch

import net
from misc.errors import InputError
from misc.run import device as module
from misc.run.device import (
    autocast,
    batch_size_for,
    facts_of,
    fixed_shapes,
    in_turns,
    memory_format,
    out_of_memory,
    pick_device,
    refines_on,
    side_step_for,
    training_type,
)
from misc.run.distributed import together

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


def test_devices_by_name():
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("nonsense", "cuda:99", "xpu:77"):
        with pytest.raises(InputError, match=f"--device {name}: not usable here"):
            pick_device(name)


def test_what_a_device_likes():
    assert (batch_size_for(CPU, 0), batch_size_for(CUDA, 0), batch_size_for(CUDA, 3)) == (1, 8, 3)
    assert facts_of(CUDA).backend == "nccl" and facts_of(CPU).backend == "gloo"
    given = ((CPU, None), (CUDA, None), (CUDA, 0), (CPU, 32))
    assert [side_step_for(*one) for one in given] == [0, 64, 0, 32]
    assert (refines_on(CUDA), refines_on(CPU), refines_on(torch.device("mps"))) == (CUDA, CPU, CPU)


@pytest.mark.parametrize(
    ("capability", "wide", "dtype"),
    [
        ((9, 0), True, torch.bfloat16),  # H100
        ((8, 6), False, None),  # RTX 30xx: TF32
        ((7, 5), True, torch.float16),  # T4: no bfloat16
        ((7, 0), False, torch.float16),  # V100
        ((6, 1), True, None),  # GTX 10xx: nothing faster
    ],
)
def test_the_type_of_a_training_goes_by_the_card(capability, wide, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert training_type(CUDA, wide) == dtype
    for other in (CPU, torch.device("mps")):
        assert training_type(other, wide) is None


def test_wide_networks_are_known():
    wide = {name: net.build(name, 3).wide for name in ("resnet38", "resnet50", "efficientnet_lite0")}
    assert wide == {"resnet38": True, "resnet50": False, "efficientnet_lite0": False}


def test_depthwise_convolutions_stay_contiguous_where_pytorch_has_kernels_for_them():
    lite, dense = net.build("efficientnet_lite0", 3), net.build("resnet50", 3)
    assert memory_format(lite, CUDA) == torch.contiguous_format
    assert memory_format(lite, CPU) == memory_format(dense, CUDA) == memory_format(dense, CPU) == torch.channels_last


def test_auto_says_once_what_it_took_and_why_not_cuda(monkeypatch, capsys):
    for version, cuda, why in (
        (None, False, "device: cpu (this PyTorch was built without CUDA)"),
        ("13.0", False, "device: cpu (no GPU that PyTorch can use)"),
        ("13.0", True, "device: cuda (A Card)"),
    ):
        module._auto.cache_clear()
        monkeypatch.setattr(torch.version, "cuda", version)
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A Card")
        assert [module._auto(), module._auto()] == ["cuda" if cuda else "cpu"] * 2
        assert capsys.readouterr().out == f"{why}\n"
    module._auto.cache_clear()


@pytest.fixture
def pretended(monkeypatch):
    """torch.empty gives a tensor of the device that is asked for, there or not; its index is 0 where none is said."""
    give = lambda *_, device: SimpleNamespace(device=torch.device(device.type, device.index or 0))  # noqa: E731
    monkeypatch.setattr(torch, "empty", give)


def test_what_is_chosen_on_cuda_alone(pretended, monkeypatch):
    """TF32 where CUDA is; a CPU's products keep their precision."""
    chosen = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    pick_device("cpu")
    assert not chosen
    assert pick_device("cuda") == torch.device("cuda", 0) and chosen == ["high"]


def test_a_process_of_several_starts_on_its_own_device(pretended, monkeypatch):
    """A tensor on the first device would leave some hundred MB of each process there."""
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 3}.items():
        monkeypatch.setenv(name, str(value))
    assert pick_device("cuda") == torch.device("cuda", 3) and pick_device("cuda:1") == torch.device("cuda", 1)


def test_deterministic_on_request(pretended, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        pick_device("cuda")
        pick_device("cpu", deterministic=True)  # always is
        assert not torch.are_deterministic_algorithms_enabled()
        pick_device("cuda", deterministic=True)
        assert torch.is_deterministic_algorithms_warn_only_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_the_fastest_way_is_looked_for_in_trainings_alone():
    for device, deterministic, searched in ((CUDA, False, True), (CUDA, True, False), (CPU, False, False)):
        with fixed_shapes(device, deterministic):
            assert torch.backends.cudnn.benchmark == searched
        assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        MemoryError("Unable to allocate 7 GiB"),
    ],
)
def test_out_of_memory_is_one_line_with_what_to_do(error):
    with (
        pytest.raises(InputError, match=r"^out of memory \(.*\): lower --max_side$"),
        out_of_memory("lower --max_side"),
    ):
        raise error


def test_other_errors_stay_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory("lower --max_side"):
        raise RuntimeError("shapes do not fit")


def test_the_cpus_own_allocator_is_known():
    with pytest.raises(InputError, match="out of memory"), out_of_memory("x"):
        torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(("rank", "processes", "index"), [(0, 1, 2), (1, 2, 1)])
def test_a_training_sets_a_device_with_an_index(rank, processes, index, monkeypatch):
    """torch.cuda.set_device refuses a device without one: every training on a GPU ended so."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *args, **kwargs: None)
    met = torch.distributed.HashStore(), rank, processes
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda _: iter([met]))
    for name, value in {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, str(value))
    _, device = together(torch.device("cuda", 2))
    assert device == torch.device("cuda", index) and chosen == [device]


def test_a_new_kind_of_device_is_a_row(monkeypatch):
    monkeypatch.setitem(module._FACTS, "cpu", module.DeviceFacts(5, mixed=lambda device, wide: torch.bfloat16))
    assert batch_size_for(CPU, 0) == 5
    with autocast(CPU, training_type(CPU, False)):
        assert torch.is_autocast_enabled("cpu")
    with autocast(CPU, None):
        assert not torch.is_autocast_enabled("cpu")


def test_threads_take_turns_without_gradients():
    weight = torch.ones(1, requires_grad=True)
    assert not in_turns(lambda x: x * weight, torch.device("cpu"))(2).requires_grad
