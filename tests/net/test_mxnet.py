"""MXNet's parameter files: every layout that was ever written, and every way in which one can be damaged."""

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest

from misc.errors import InputError
from net.mxnet import read_params

_CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
_MAGIC = {"v1": 0xF993FAC8, "v2": 0xF993FAC9, "v3": 0xF993FACA}


def array(value: np.ndarray, layout: str = "v2", device=(1, 0)) -> bytes:
    """One array as MXNet writes it, in a layout of its history ("legacy": without a magic number)."""
    dims = struct.pack(f"<I{value.ndim}{'I' if layout == 'legacy' else 'q'}", value.ndim, *value.shape)
    magic = b"" if layout == "legacy" else struct.pack("<I", _MAGIC[layout])
    storage = struct.pack("<i", 0) if layout in ("v2", "v3") else b""
    return magic + storage + dims + struct.pack("<3i", *device, _CODES[value.dtype.name]) + value.tobytes()


def params(arrays: list[bytes], names: list[str]) -> bytes:
    packed = b"".join(struct.pack("<Q", len(n.encode())) + n.encode() for n in names)
    return struct.pack("<3Q", 0x112, 0, len(arrays)) + b"".join(arrays) + struct.pack("<Q", len(names)) + packed


@pytest.fixture
def write(tmp_path):
    def write(content: bytes):
        path = tmp_path / "net.params"
        path.write_bytes(content)
        return path

    return write


def test_golden_types(shared):
    got = read_params(shared("golden", "mx_types_v2.params"))
    want = {
        "a:f16": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a:f64": np.linspace(0, 1, 5),
        "a:u8": np.arange(4, dtype=np.uint8),
        "a:i32": np.arange(-2, 3, dtype=np.int32),
        "a:i64": np.array([2**40, -3]),
    }
    _assert_same(got, want)


@pytest.mark.parametrize("layout", ["legacy", "v1", "v2", "v3"])
@pytest.mark.parametrize("dtype", _CODES)
@pytest.mark.parametrize("device", [(1, 0), (2, 3)])
def test_every_layout_type_and_device(layout, dtype, device, write):
    want = {"arg:a": np.arange(24).reshape(2, 3, 4).astype(dtype), "aux:b": np.array([7, -3, 0]).astype(dtype)}
    got = read_params(write(params([array(v, layout, device) for v in want.values()], list(want))))
    _assert_same(got, want)
    assert all(v.flags.writeable for v in got.values())


def test_layouts_may_be_mixed_lists_unnamed_and_arrays_empty_or_scalar(write):
    arrays = [np.arange(3, dtype=np.float32), np.eye(2, dtype=np.float32), np.zeros((0, 4), np.float32)]
    got = read_params(write(params([array(v, layout) for v, layout in zip(arrays, _MAGIC, strict=True)], [])))
    _assert_same(got, {str(i): v for i, v in enumerate(arrays)})
    _assert_same(read_params(write(params([array(np.array(5.0), "v3")], ["s"]))), {"s": np.array(5.0)})
    assert read_params(write(params([], []))) == {}


GOOD = params([array(np.arange(6, dtype=np.float32).reshape(2, 3), v) for v in ("legacy", "v2")], ["arg:a", "aux:b"])


def test_a_file_cut_anywhere_is_refused_in_one_line(write):
    for length in range(len(GOOD)):
        with pytest.raises(InputError, match=r"net\.params is no MXNet parameter file, or is damaged: ") as e:
            read_params(write(GOOD[:length]))
        assert "\n" not in str(e.value) and len(str(e.value)) < 300


def test_no_damaged_byte_does_worse_than_an_input_error(write):
    """Each byte set to each of a few values: read, or refused; never another error, never memory beyond the file's."""
    tracemalloc.start()
    try:
        for at in range(len(GOOD)):
            for value in (0x00, 0x01, 0x7F, 0x80, 0xFF):
                with contextlib.suppress(InputError):
                    read_params(write(GOOD[:at] + bytes([value]) + GOOD[at + 1 :]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def header(*fields: tuple[str, int]) -> bytes:
    return b"".join(struct.pack(f"<{kind}", value) for kind, value in fields)


DAMAGED = {
    "it does not begin as one": b"PK\x03\x04" + bytes(60),
    "it ends": struct.pack("<3Q", 0x112, 0, 2**63) + array(np.zeros(2, np.float32)),
    "4000000000 dimensions": struct.pack("<3Q", 0x112, 0, 1) + header(("I", 4_000_000_000)),
    "-1 dimensions": struct.pack("<3Q", 0x112, 0, 1) + header(("I", _MAGIC["v3"]), ("i", 0), ("i", -1)),
    "no value": struct.pack("<3Q", 0x112, 0, 9) + bytes(4000),
    r"the shape \(1099511627776, 0\)": struct.pack("<3Q", 0x112, 0, 1)
    + header(("I", _MAGIC["v1"]), ("I", 2), ("q", 2**40), ("q", 0)),
    r"the shape \(-2,\)": struct.pack("<3Q", 0x112, 0, 1) + header(("I", _MAGIC["v1"]), ("I", 1), ("q", -2)),
    "where 40000000000 should be": struct.pack("<3Q", 0x112, 0, 1)
    + header(("I", 5), *[("I", 100)] * 5, *[("i", 0)] * 3)
    + bytes(100),
    "unknown data type 9": struct.pack("<3Q", 0x112, 0, 1) + header(("I", 1), ("I", 1), ("i", 1), ("i", 0), ("i", 9)),
    "sparse": struct.pack("<3Q", 0x112, 0, 1) + header(("I", _MAGIC["v2"]), ("i", 1)) + bytes(80),
    "1 arrays under 2 names": params([array(np.zeros(2, np.float32))], ["a", "b"]),
    "2 arrays under 1 names": params([array(np.zeros(2, np.float32))] * 2, ["a", "a"]),
    "3 bytes follow": GOOD + b"abc",
    "decode": params([array(np.zeros(2, np.float32))], ["a"])[:-1] + b"\xff",
}


@pytest.mark.parametrize("message", DAMAGED)
def test_what_cannot_be_is_named(message, write):
    with pytest.raises(InputError, match=message):
        read_params(write(DAMAGED[message]))


def test_files_that_are_none(tmp_path, write):
    with pytest.raises(InputError, match=r"absent\.params cannot be read"):
        read_params(tmp_path / "absent.params")
    with pytest.raises(InputError, match="cannot be read"):
        read_params(tmp_path)
    with pytest.raises(InputError, match="damaged"):
        read_params(write(b""))


def _assert_same(got, want):
    assert list(got) == list(want)
    for key in want:
        assert (got[key].dtype, got[key].shape) == (want[key].dtype, want[key].shape)
        np.testing.assert_array_equal(got[key], want[key])
