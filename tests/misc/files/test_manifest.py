"""A list of images as a file: sorted, each name once, and a shard of it without the rest."""

import numpy as np
import pytest

from misc.errors import InputError
from misc.files import manifest
from misc.files.manifest import lines_of, open_manifest, write_manifest


@pytest.mark.parametrize("block", [7, 64, 1 << 20])
@pytest.mark.parametrize("size", [1, 3, 10, 11])
def test_shards_are_of_the_places(block, size, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_BLOCK", block)
    lines = [f"sub/{'x' * (i % 5)}{i:03d}.v1.jpg" for i in range(10)]
    write_manifest(tmp_path / "m.txt", [line.encode() for line in lines], {"folder": ".."})
    held = open_manifest(tmp_path / "m.txt", size)
    assert (held.count, held.shards, held.facts["folder"]) == (10, -(-10 // size), "..")
    shards = [list(held.shard(k).values()) for k in range(held.shards)]
    assert shards == [lines[i : i + size] for i in range(0, 10, size)]
    assert next(iter(held.shard(0))) == "sub/000.v1"


def test_lists_of_people(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfb.jpg\r\n\r\n# a remark\n a.jpg \n")
    (tmp_path / "a.csv").write_text('file,label\n"b,c.jpg",cat\na.jpg,dog\n')
    assert lines_of(tmp_path / "a.txt", "--manifest") == [b"a.jpg", b"b.jpg"]
    assert lines_of(tmp_path / "a.csv", "--manifest") == [b"a.jpg", b"b,c.jpg"]
    for name, text in (("empty.txt", "\n"), ("odd.csv", "file\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="names no image"):
            lines_of(tmp_path / name, "--manifest")
    with pytest.raises(InputError, match="cannot be read"):
        lines_of(tmp_path / "absent.txt", "--manifest")


def test_names_are_without_root_scheme_and_suffix(tmp_path):
    lines = [b"/data/x.jpg", b"C:/data/y.png", b"s3://bucket/in/z.webp", b"w.w.jpeg"]
    write_manifest(tmp_path / "m.txt", lines, {})
    assert list(open_manifest(tmp_path / "m.txt", 9).shard(0)) == ["data/x", "data/y", "bucket/in/z", "w.w"]


@pytest.mark.parametrize(
    ("lines", "text"), [([b"a.jpg", b"b.jpg", b"a.png"], "one name"), ([b"a\nb.jpg"], "end of line")]
)
def test_what_cannot_stand_in_a_manifest(lines, text, tmp_path):
    with pytest.raises(InputError, match=text):
        write_manifest(tmp_path / "m.txt", lines, {})
    (tmp_path / "other.txt").write_text("a.jpg\n")
    with pytest.raises(InputError, match="is no manifest"):
        open_manifest(tmp_path / "other.txt", 2)


def test_many_names_take_little(tmp_path):
    """A shard of a hundred thousand is found by its place in the file."""
    lines = [b"%06d.jpg" % i for i in range(100_000)]
    write_manifest(tmp_path / "m.txt", lines, {})
    held = open_manifest(tmp_path / "m.txt", 1000)
    assert len(held.starts) == 101 and np.diff(held.starts).tolist() == [11_000] * 100
    assert next(iter(held.shard(77))) == "077000"
