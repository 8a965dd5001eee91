"""The numbers that come with the repository: small, plain, described, equal to the whole set where it is at hand."""

from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.npz"))


def test_they_are_few_and_described():
    described = {line.split("|")[1].strip().strip("`") for line in (FOLDER / "README.md").read_text().splitlines()
                 if line.startswith("| `")}  # fmt: skip
    assert described == {path.name for path in FILES}
    assert 1e6 < sum(path.stat().st_size for path in FILES) < 2e6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_they_are_numbers_and_names(path):
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays.files and {arrays[key].dtype.kind for key in arrays.files} <= set("fiuU")


@pytest.mark.parametrize("path", [p for p in FILES if p.stem not in ("images", "pysodmetrics")], ids=lambda p: p.stem)
def test_they_are_those_of_the_whole_set(path, shared):
    whole = np.load(shared("golden", path.name))
    for key, array in np.load(path).items():
        np.testing.assert_array_equal(array, whole[key], err_msg=key)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("layer1.0.bn3.weight", "4"),
        ("b4_2.conv_branch2b1.weight", "3,5,3,3"),
        ("b6.conv_branch2b2.weight", "2,4,1,1"),
        ("bn.running_var", "3"),
        ("bn.running_mean", "3"),
        ("fc.bias", "7"),
        ("fc.weight", "2,9"),
        ("bn.num_batches_tracked", ""),
    ],
)
def test_weights_are_those_of_the_whole_set(name, sides, golden, shared):
    """By the rule that stands beside the whole set; a tied tensor has the values of its source."""
    rule: dict = {}
    exec(shared("golden", "rule.py").read_text(), rule)
    made = golden.weights({"state_dict_spec": np.array([f"tied.{name}|{sides}|float32|{name}"])})[f"tied.{name}"]
    wanted = rule["make_value"](name, made.shape)
    assert made.dtype == wanted.dtype
    np.testing.assert_array_equal(made, wanted)
