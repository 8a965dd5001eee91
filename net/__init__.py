"""Networks. build(name, num_classes) makes one; net.weights.load finds weights for one."""

from dataclasses import replace

from torch import nn

from net import deeplab, densenet169, efficientnet_lite, resnet38, resnet50
from net.affinitynet import AffinityNet
from net.cam_net import CAMNet, for_inference
from net.deeplab import SegNet
from net.network import NetFacts, Network
from net.seam import SEAMNet

NETWORKS = ("resnet50", "densenet169", *efficientnet_lite.MULTIPLIERS, "resnet38")
_KINDS = {
    "sigmoid": CAMNet,
    "softmax": CAMNet,
    "seam": SEAMNet,
    "affinity": AffinityNet,
    **dict.fromkeys(deeplab.HEADS, SegNet),
}


def build(name: str, num_classes: int, **facts) -> Network:
    """A network with random weights. facts: other fields of NetFacts. Raises ValueError for an unknown name or head."""
    return build_from(NetFacts(name, num_classes, **facts))


def build_from(facts: NetFacts, **kwargs) -> Network:
    """As build, from the facts that a checkpoint holds; facts.head names the kind. kwargs: the kind's own."""
    if facts.head not in _KINDS:
        raise ValueError(f"unknown head {facts.head!r}: choose one of {', '.join(_KINDS)}")
    if facts.network in efficientnet_lite.MULTIPLIERS:
        facts = replace(facts, mean=efficientnet_lite.MEAN, std=efficientnet_lite.STD)
    return _KINDS[facts.head](_backbone(facts), facts, **kwargs)


def _backbone(facts: NetFacts) -> nn.Module:
    if facts.network == "resnet50":
        return resnet50.ResNet50(facts.layout)
    if facts.network == "densenet169":
        return densenet169.DenseNet169(facts.layout)
    if facts.network == "resnet38":
        return resnet38.ResNet38()
    if facts.network in efficientnet_lite.MULTIPLIERS:
        return efficientnet_lite.EfficientNetLite(facts.network, stride=16 if facts.layout == "cam" else 32)
    raise ValueError(f"unknown network {facts.network!r}: choose one of {', '.join(NETWORKS)}")


__all__ = [
    "NETWORKS",
    "AffinityNet",
    "CAMNet",
    "NetFacts",
    "Network",
    "SEAMNet",
    "SegNet",
    "build",
    "build_from",
    "for_inference",
]
