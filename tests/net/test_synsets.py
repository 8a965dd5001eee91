"""Names of classes and ImageNet's 1000."""

import pytest

from data.datasets import DATASETS
from net.synsets import categories, synsets_of


@pytest.mark.parametrize(
    ("name", "holds", "count"),
    [
        ("cat", "Siamese cat", 5),
        ("dog", "beagle", 118),
        ("bird", "hummingbird", 18 + 21 + 20),
        ("sheep", "ram", 2),
        ("tvmonitor", "monitor", 3),
        ("person", "groom", 59),
    ],
)
def test_a_group_of_imagenets_classes(name, holds, count):
    found = synsets_of(name)
    assert len(found) == len(set(found)) == count and categories().index(holds) in found


def test_voc_is_known_and_most_of_coco():
    assert all(synsets_of(name) for name in DATASETS["voc12"].class_names)
    unknown = [name for name in DATASETS["coco14"].class_names if not synsets_of(name)]
    assert len(unknown) == 11 and {"giraffe", "frisbee", "scissors"} <= set(unknown)


def test_spelling_does_not_matter_and_imagenets_own_names_are_known():
    assert synsets_of("Golf-Ball") == synsets_of(" golf_balls ") == synsets_of("golf ball") == (574,)
    assert synsets_of("tench") == (0,) and synsets_of("French horn") == (566,)
    assert synsets_of("crane") == (517,)  # the machine: the bird is a "crane bird"


def test_unknown_names():
    assert synsets_of("gizmo") == synsets_of("") == synsets_of("s") == ()
