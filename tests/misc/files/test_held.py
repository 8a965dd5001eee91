"""Files in memory."""

import pytest

from misc.files.held import Held, Kept
from misc.files.images import read_gray
from misc.files.predictions import read_prediction


def test_errors_name_the_file_as_if_it_were_read_from_disk(tmp_path):
    path = tmp_path / "no picture.png"
    path.write_bytes(b"no picture")
    for read in (read_gray, read_prediction):
        messages = []
        for file in (path, Held(path)):
            with pytest.raises(OSError, match="is no picture that can be read: it holds text") as e:
                read(file)
            messages.append(str(e.value))
        assert messages[0] == messages[1]
    with pytest.raises(FileNotFoundError):
        Held(tmp_path / "none")


def test_files_are_kept_up_to_a_bound(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 4)
    kept = Kept(room=8)
    first = [kept(tmp_path / name) for name in "abc"]
    assert first[0].read() == b"aaaa"
    for name in "abc":
        (tmp_path / name).write_bytes(b"new")
    second = [kept(tmp_path / name) for name in "abc"]
    assert [file.read() for file in second] == [b"aaaa", b"bbbb", b"new"]
