"""What is found out of shards, and told of all."""

from pathlib import Path

import pytest

import run_sample
from misc.run.failures import Failures
from misc.run.parts import in_parts
from misc.run.shards import give_up


@pytest.fixture
def ask(tmp_path):
    """ask(number) finds out of a shard, ask(None) tells of all; ask.found: the shards that were looked at."""
    args, failures = run_sample.TABLE.resolve({"result_dir": tmp_path, "shard_size": 2}), Failures(None)
    images = [{f"{number}{i}": tmp_path / f"{number}{i}.txt" for i in "ab"} for number in range(3)]
    for path in (path for one in images for path in one.values()):
        path.write_text(path.stem)

    def find(own):
        ask.found.append(args.at_shard)
        failures.add("look", next(iter(own.values())), "odd")
        return {"texts": [path.read_text() for path in own.values()], "names": ["\udcff"]}

    def ask(number):
        args.at_shard, args.shards = number, range(3) if number is None else None
        parts = in_parts("look", lambda: images[number], lambda own: own.values(), find, args, failures)
        return parts and [text for _ in range(2) for part in parts() for text in part["texts"]]

    ask.found, ask.images, ask.args, ask.failures = [], images, args, failures
    return ask


def test_all_is_told_in_the_order_of_the_shards(ask):
    assert [ask(number) for number in (2, 0, 1)] == [None] * 3
    assert ask(None) == ["0a", "0b", "1a", "1b", "2a", "2b"] * 2 and ask.found == [2, 0, 1]


def test_a_shard_is_looked_at_again_where_a_file_is_another(ask, tmp_path):
    for number in range(3):
        ask(number)
    (tmp_path / "1b.txt").write_text("other")
    (tmp_path / "runs/look-2/found/00002.json").unlink()
    for number in range(3):
        ask(number)
    assert ask.found == [0, 1, 2, 1, 2] and ask(None)[3] == "other"
    assert len([*(tmp_path / "runs/look-2").glob("*.json")]) == 3
    assert {file for _, file in ask.failures.files(["look"])} == {str(tmp_path / f"{k}a.txt") for k in range(3)}


def test_what_an_earlier_run_found_of_a_shard_that_is_given_up_is_not_told(ask):
    for number in range(3):
        ask(number)
    give_up(1, "died", ["look_pass"], ask.args, ask.failures)
    assert ask(None) == ["0a", "0b", "2a", "2b"] * 2
    assert ("shards", str(Path("shard 1"))) in ask.failures.files(["shards"])


def test_what_an_earlier_run_found_of_a_shard_without_images_is_not_told(ask):
    for number in range(3):
        ask(number)
    ask.images[1].clear()
    ask(1)
    assert ask(None) == ["0a", "0b", "2a", "2b"] * 2 and ask.found == [0, 1, 2]


def test_without_shards_all_is_found_at_once():
    args = run_sample.TABLE.resolve({})
    parts = in_parts("look", lambda: {"a": Path("a")}, lambda own: own.values(), dict, args, Failures(None))
    assert [*parts()] == [*parts()] == [{"a": Path("a")}]
