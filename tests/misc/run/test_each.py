"""The one loop: it knows all outputs of an item, keeps what is current, and leaves markers of shards."""

import csv
import os
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError, OutOfMemory
from misc.files.store import read_json, write_npz, write_png
from misc.run.each import Batches, Item, each
from misc.run.failures import Failures
from misc.run.flags import Run, Table

ARGS = SimpleNamespace(overwrite=False, num_workers=2, quiet=True, at_shard=None)


def items_of(root, num=5):
    (root / "in").mkdir(exist_ok=True)
    for i in range(num):
        if not (root / "in" / f"{i}.txt").exists():
            (root / "in" / f"{i}.txt").write_text(str(i))
    outs = [(root / "a" / f"{i}.png", root / "b" / f"{i}.npz") for i in range(num)]
    return [Item(root / "in" / f"{i}.txt", outs[i], (root / "in" / f"{i}.txt",)) for i in range(num)]


def writes(number):
    array = np.full((2, 3), int(number), np.uint8)
    return [partial(write_png, array=array), partial(write_npz, x=array)]


def run(root, args=ARGS, settings=None, writing=None, reading=None, **kwargs):
    failures, made = Failures(root / "failed.csv"), []

    def fail(*_, **__):
        raise writing

    def make(item, data):
        if reading:
            raise reading
        made.append(item.source.stem)
        return [fail, fail] if writing else writes(data[0].getvalue().decode())

    each("test", items_of(root), settings or {"version": 1}, make, args, failures, **kwargs)
    return sorted(made), failures


def rows(path):
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def contents(root):
    return {p.relative_to(root): p.read_bytes() for folder in "ab" for p in sorted((root / folder).iterdir())}


@pytest.mark.parametrize("gone", ["a/2.png", "b/2.npz"])
def test_every_output_is_known_and_made_anew_where_it_is_gone_or_damaged(gone, tmp_path):
    assert run(tmp_path)[0] == list("01234")
    first = contents(tmp_path)
    assert run(tmp_path)[0] == []
    (tmp_path / gone).unlink()
    assert run(tmp_path)[0] == ["2"]
    (tmp_path / gone).write_bytes(b"x")
    assert run(tmp_path)[0] == ["2"] and contents(tmp_path) == first


def test_other_settings_and_overwrite_make_all_anew(tmp_path):
    run(tmp_path)
    assert run(tmp_path, settings={"version": 2})[0] == list("01234")
    assert run(tmp_path, SimpleNamespace(**{**vars(ARGS), "overwrite": True}), {"version": 2})[0] == list("01234")
    per_output = [({"version": 2},), ("other",)]
    assert run(tmp_path, settings=lambda _: per_output)[0] == list("01234")
    assert run(tmp_path, settings=lambda _: per_output)[0] == []


def test_a_shard_leaves_a_marker_and_while_all_is_as_it_was_no_file_is_read(tmp_path):
    args = SimpleNamespace(**vars(ARGS), result_dir=tmp_path / "r", shard_size=5)
    args.at_shard = 3

    def again(**kwargs):
        made, failures = run(tmp_path, args, **kwargs)
        return made, len(failures)

    assert again() == (list("01234"), 0)
    marker = tmp_path / "r" / "runs" / "test-5" / "00003.json"
    held = read_json(marker)
    assert held["images"] == held["made"] == 5 and held["failed"] == {} and held["seconds"] >= 0
    before = marker.read_bytes()
    os.utime(tmp_path / "b" / "1.npz", ns=(1, 1))  # written anew, of the same bytes: read, and kept
    assert again() == ([], 0) and read_json(marker)["made"] == 0 and marker.read_bytes() != before
    assert again(reading=OSError("is not to be read")) == ([], 0)
    (tmp_path / "a" / "2.png").unlink()
    assert again() == (["2"], 0)
    assert again(settings={"version": 2}) == (list("01234"), 0)
    args.overwrite = True
    assert again(settings={"version": 2}) == (list("01234"), 0)


def test_a_marker_holds_the_failures_of_its_shard(tmp_path):
    args = SimpleNamespace(**{**vars(ARGS), "at_shard": 0}, result_dir=tmp_path / "r", shard_size=5)
    made, failures = run(tmp_path, args, reading=OSError("is bad"))
    assert made == [] and len(failures) == 5
    made, failures = run(tmp_path, args)  # not tried again while nothing changes
    assert made == [] and {row["reason"] for row in rows(tmp_path / "failed.csv")} == {"is bad"} and len(failures) == 5
    (tmp_path / "in" / "0.txt").write_text("0 ")
    assert run(tmp_path, args)[0] == list("01234")


def test_a_failure_stays_with_its_item_and_those_that_failed_before_are_left_alone(tmp_path, capsys):
    items, failures, tried = items_of(tmp_path), Failures(tmp_path / "failed.csv"), []
    items[1].source.unlink()
    missing = Item(items[3].source, items[3].outs, (items[3].source, tmp_path / "no.png"), "make_cam")
    failures.add("before", items[4].source, "reason")

    def make(item, data):
        tried.append(item.source.stem)
        if item.source.stem == "2":
            raise OSError("is bad")
        return writes("7")

    assert each("test", [*items[:3], missing, items[4]], {}, make, ARGS, failures) == 1
    assert sorted(tried) == ["0", "2"] and all(item.source in failures for item in items[1:])
    text = (tmp_path / "failed.csv").read_text()
    assert "is bad" in text and "no.png, which it needs, is missing: run make_cam" in text
    assert "test: 1 labels of 0.4 kB made, 4 kept or failed" in capsys.readouterr().out


@pytest.mark.parametrize("size", [1, 2, 3])
def test_batches_are_neighbours_of_one_key(size, tmp_path):
    groups = []

    def compute(works):
        groups.append(works)
        return [writes(w) for w in works]

    failures = Failures(tmp_path / "failed.csv")
    make = lambda item, data: int(item.source.stem)  # noqa: E731
    batches = Batches(compute, size, lambda n: n // 3)
    assert each("test", items_of(tmp_path), {}, make, ARGS, failures, batches=batches) == 5
    assert [n for group in groups for n in group] == [0, 1, 2, 3, 4]
    assert all(len(g) <= size and len({n // 3 for n in g}) == 1 for g in groups)
    assert len(groups) == {1: 5, 2: 3, 3: 2}[size]
    assert np.asarray(Image.open(tmp_path / "a" / "4.png"))[0, 0] == 4


@pytest.mark.parametrize(("room", "fill"), [(3, False), (1, False), (2, True)])
def test_a_device_that_runs_out_of_memory_gets_half_as_many_from_then_on(room, fill, tmp_path):
    groups = []

    def compute(works):
        groups.append(len(works))
        if len(works) > room:
            raise OutOfMemory("out of memory (simulated): lower --max_side")
        return [writes(w) for w in works]

    failures = Failures(tmp_path / "failed.csv")
    batches = Batches(compute, 4, fill=fill)
    assert each("test", items_of(tmp_path), {}, lambda i, _: int(i.source.stem), ARGS, failures, batches=batches) == 5
    assert groups == {(3, False): [4, 2, 2, 1], (1, False): [4, 2, 1, 1, 1, 1, 1], (2, True): [4, 2, 2, 2]}[room, fill]
    assert [np.asarray(Image.open(tmp_path / "a" / f"{i}.png"))[0, 0] for i in range(5)] == list(range(5))


def test_one_item_too_large_for_a_device_ends_the_run_with_the_flag(tmp_path):
    def compute(works):
        raise OutOfMemory("out of memory (simulated): lower --max_side")

    with pytest.raises(InputError, match="lower --max_side"):
        failures, make = Failures(tmp_path / "failed.csv"), lambda *_: 0
        each("test", items_of(tmp_path), {}, make, ARGS, failures, batches=Batches(compute, 8))


def test_a_device_can_meet_one_number_of_images(tmp_path):
    groups = []

    def compute(works):
        groups.append([*works])
        return [writes(w) for w in works]

    failures, make = Failures(tmp_path / "failed.csv"), lambda item, _: int(item.source.stem)
    batches = Batches(compute, 2, lambda n: n // 3, fill=True)
    assert each("test", items_of(tmp_path, 7), {}, make, ARGS, failures, batches=batches) == 7
    assert groups == [[0, 1], [2, 2], [3, 4], [5, 5], [6]]  # one alone is one shape as well


def test_what_is_too_large_for_a_batch_does_not_slow_down_the_rest(tmp_path):
    groups = []

    def compute(works):
        groups.append([*works])
        if len(works) > 1 and works[0] < 3:
            raise OutOfMemory("out of memory (simulated): lower --max_side")
        return [writes(w) for w in works]

    failures, make = Failures(tmp_path / "failed.csv"), lambda item, _: int(item.source.stem)
    batches = Batches(compute, 3, lambda n: n // 3)
    assert each("test", items_of(tmp_path, 9), {}, make, ARGS, failures, batches=batches) == 9
    assert groups == [[0, 1, 2], [0], [1], [2], [3, 4, 5], [6, 7, 8]]


def test_what_cannot_be_written_beside_a_device_is_its_items_failure(tmp_path):
    def compute(works):
        return [writes(w) if w != 2 else [fail, fail] for w in works]

    def fail(*_, **__):
        raise OSError("no room")

    failures, make = Failures(tmp_path / "failed.csv"), lambda item, _: int(item.source.stem)
    assert each("test", items_of(tmp_path), {}, make, ARGS, failures, batches=Batches(compute, 2)) == 4
    assert (tmp_path / "failed.csv").read_text().splitlines()[1:] == [f"test,{tmp_path / 'in' / '2.txt'},no room"]


def test_the_record_is_written_before_the_first_result_and_where_what_is_kept_is_of_other_settings(tmp_path):
    args = Table("", (Run(result_dir=tmp_path, num_workers=1),)).resolve({})
    record = tmp_path / "settings" / "what.json"
    with pytest.raises(InputError, match="the disk"):
        run(tmp_path, args, key="what", facts={"network": "a"}, writing=InputError("the disk"))
    assert read_json(record)["network"] == "a" and not list((tmp_path / "a").iterdir())
    run(tmp_path, args, key="what", facts={"network": "b"})
    assert read_json(record)["network"] == "b" and read_json(record)["folder"] == "a"
    before = record.read_bytes()
    run(tmp_path, args, key="what", facts={"network": "b"})
    assert record.read_bytes() == before  # nothing was made, nothing is otherwise
    run(tmp_path, args, key="what", facts={"network": "c"})  # as another run would make it
    assert read_json(record)["network"] == "c"
    record.unlink()
    run(tmp_path, args, key="what", facts={"network": "c"})
    assert read_json(record)["network"] == "c"  # whoever made it did not say how


def test_no_record_where_all_failed(tmp_path):
    args = Table("", (Run(result_dir=tmp_path, num_workers=1),)).resolve({})
    run(tmp_path, args, key="what", facts={"network": "a"}, reading=OSError("is bad"))
    assert not (tmp_path / "settings").exists()


def test_a_folder_that_cannot_be_written_is_told_before_any_work(tmp_path):
    (tmp_path / "b").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        run(tmp_path)


def test_the_record_names_the_folder_of_the_results_and_none_in_it(tmp_path):
    args = Table("", (Run(result_dir=tmp_path, num_workers=1),)).resolve({})
    (source := tmp_path / "1.txt").write_text("1")
    item = Item(source, (tmp_path / "what" / "sub" / "1.png",), (source,))
    each("test", [item], {}, lambda *_: writes(1)[:1], args, Failures(tmp_path / "failed.csv"), key="what")
    assert read_json(tmp_path / "settings" / "what.json")["folder"] == "what"
