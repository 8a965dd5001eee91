"""Paths that stand for URLs, and tars as folders."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from misc.errors import InputError
from misc.files import remote, stores, tars
from misc.files.held import Held
from misc.files.listing import list_pictures
from misc.files.store import write_png


@pytest.fixture(autouse=True)
def left():
    """No path stands for a URL any more."""
    yield
    remote.leave()


def far(path: Path) -> Path:
    return remote.as_path(f"file://{path.as_posix()}")


def test_a_path_stands_for_a_url_by_one_rule_both_ways(tmp_path):
    pytest.importorskip("fsspec", reason="needs requirements-urls.txt")
    path = remote.as_path("memory://bucket/a b/x.tar/c.jpg")
    assert path.parts[-5:] == ("memory", "bucket", "a b", "x.tar", "c.jpg")
    assert remote.url_of(path) == "memory://bucket/a b/x.tar/c.jpg"
    assert remote.url_of(path.parents[2]) == "memory://bucket"
    assert remote.told(f"{path}: is no picture") == "memory://bucket/a b/x.tar/c.jpg: is no picture"
    assert remote.url_of(far(tmp_path)) == f"file://{tmp_path.as_posix()}"
    assert remote.elsewhere(tmp_path) == remote.elsewhere(far(tmp_path)) == far(tmp_path)
    assert remote.as_path("photos/a.jpg") == Path("photos/a.jpg") and remote.url_of(Path("photos")) is None
    assert remote.below(tmp_path, "memory://b/a.jpg") == remote.as_path("memory://b/a.jpg")
    assert remote.below(tmp_path, "a.jpg") == tmp_path / "a.jpg"


def test_a_file_is_fetched_by_who_reads_it_and_put_where_it_is_new(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"one")
    path, other = far(tmp_path / "a.bin"), far(tmp_path / "sub" / "b.bin")
    assert Held(path).getvalue() == b"one" and remote.news() == []
    other.parent.mkdir()
    other.write_bytes(b"two")
    assert remote.news() == [other] and remote.put(remote.news()) == {} and remote.news() == []
    assert (tmp_path / "sub" / "b.bin").read_bytes() == b"two"
    remote.hold([path, other])
    remote.drop()
    assert not path.exists() and not other.exists() and remote.news() == []
    (tmp_path / "a.bin").write_bytes(b"three")
    assert Held(path).getvalue() == b"three"
    path.unlink()  # by whoever cleans temporary folders: what lies elsewhere stays
    assert remote.put(remote.news()) == {} and (tmp_path / "a.bin").read_bytes() == b"three"
    remote.discard(path)
    remote.discard(other)
    assert not (tmp_path / "a.bin").exists() and not (tmp_path / "sub" / "b.bin").exists()


def test_what_is_missing_is_an_error_of_one_line_that_names_the_url(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"file://{tmp_path.as_posix()}/none.jpg: no such file"):
        Held(far(tmp_path / "none.jpg"))
    assert remote.any_failed([far(tmp_path / "none.jpg")])
    remote.fetch_all([far(tmp_path / "none.jpg")])
    (tmp_path / "folder").write_bytes(b"")
    path = far(tmp_path / "folder" / "a.jpg")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"new")
    with pytest.raises(InputError, match="choose another folder"):
        remote.put([path])


def test_pictures_of_a_listing_are_those_of_the_folder(tmp_path):
    names = ["a.jpg", "sub/b.PNG", "x.txt", ".hidden/c.jpg", "@eaDir/d.jpg", "sub/.e.jpg"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found, here = list_pictures(far(tmp_path), "--f"), list_pictures(tmp_path, "--f")
    assert list(found.files) == list(here.files) == ["a", "sub/b"]
    assert [path.relative_to(far(tmp_path)) for path in found.files.values()] == [Path("a.jpg"), Path("sub/b.PNG")]
    digest = remote.digest_of_listing(far(tmp_path))
    remote.leave()
    (tmp_path / "a.jpg").write_bytes(b"other")
    assert remote.digest_of_listing(far(tmp_path)) != digest


def test_folders_of_the_dead_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(remote.tempfile, "tempdir", str(tmp_path))
    own = far(tmp_path / "x")
    name = own.parts[len(tmp_path.resolve().parts)]
    dead = tmp_path / name.replace(f"-{os.getpid()}-", "-999999999-")
    other = tmp_path / "generate-pgt.000000-999999999-0-x"  # of another machine
    for folder in (dead, other):
        folder.mkdir()
    remote.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {name, other.name}


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(stores, "_PAUSES", (0, 0))
    tries = []

    def work(fails, error=ConnectionError):
        tries.append(1)
        if len(tries) <= fails:
            raise error("the line is dead")
        return len(tries)

    assert stores.patiently(lambda: work(2)) == 3
    tries.clear()
    with pytest.raises(OSError, match="the line is dead, in 3 tries"):
        stores.patiently(lambda: work(3))
    tries.clear()
    with pytest.raises(FileNotFoundError):
        stores.patiently(lambda: work(1, FileNotFoundError))
    assert len(tries) == 1


# ---- tars


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as held:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            held.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_members_that_would_lie_elsewhere_are_passed_over(tmp_path):
    data = tar_of({"a.jpg": b"1", "sub/b.c.jpg": b"2", "../x.jpg": b"3", "/y.jpg": b"4", ".z.jpg": b"5"})
    tar = tmp_path / "x.tar"
    assert dict(tars.members(tar, data)) == {tar / "a.jpg": b"1", tar / "sub" / "b.c.jpg": b"2"}
    with pytest.raises(OSError, match="is no whole tar"):
        list(tars.members(tar, b"no tar"))


def test_a_folder_of_labels_as_a_tar_and_back(tmp_path):
    import numpy as np

    tar = tmp_path / "cam" / "x.tar"
    for name in ("a.png", "sub/b.c.png"):
        write_png(tar / name, np.zeros((2, 2), np.uint8), made_from=name)
    data = tars.packed(tar)
    with tarfile.open(fileobj=io.BytesIO(data)) as held:
        assert held.getnames() == ["a.cam.png", "a.json", "sub/b.c.cam.png", "sub/b.c.json"]
        assert b'"fingerprint": "a.png"' in held.extractfile("a.json").read()
    files = {path: path.read_bytes() for path in tar.rglob("*.png")}
    assert dict(tars.members(tar, data)) == files and tars.packed(tar) == data


def test_a_damaged_tar_is_told_to_who_reads_its_members(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar_of({"a.jpg": b"1" * 2000})[:900])
    with pytest.raises(OSError, match="is no whole tar"):
        Held(far(tmp_path / "x.tar" / "a.jpg"))
