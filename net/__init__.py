"""Networks. build(name, num_classes) makes one; net.weights.load finds weights for one."""

from dataclasses import replace

from net import densenet169, efficientnet_lite, resnet50
from net.cam_net import CAMNet, NetFacts, for_inference

NETWORKS = ("resnet50", "densenet169", *efficientnet_lite.MULTIPLIERS)


def build(name: str, num_classes: int, **facts) -> CAMNet:
    """A CAM network with random weights. facts: other fields of NetFacts. Raises ValueError for an unknown name."""
    return build_from(NetFacts(name, num_classes, **facts))


def build_from(facts: NetFacts) -> CAMNet:
    """As build, from the facts that a checkpoint holds."""
    if facts.network == "resnet50":
        return CAMNet(resnet50.ResNet50(facts.layout), resnet50.FEATURE_DIM, facts)
    if facts.network == "densenet169":
        return CAMNet(densenet169.DenseNet169(facts.layout), densenet169.FEATURE_DIM, facts)
    if facts.network in efficientnet_lite.MULTIPLIERS:
        facts = replace(facts, mean=efficientnet_lite.MEAN, std=efficientnet_lite.STD)
        stride = 16 if facts.layout == "cam" else 32
        return CAMNet(efficientnet_lite.EfficientNetLite(facts.network, stride), efficientnet_lite.FEATURE_DIM, facts)
    raise ValueError(f"unknown network {facts.network!r}: choose one of {', '.join(NETWORKS)}")


__all__ = ["NETWORKS", "CAMNet", "NetFacts", "build", "build_from", "for_inference"]
