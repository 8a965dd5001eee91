"""Networks. build(name, num_classes) makes one; net.weights.load finds weights for one."""

from typing import Any

from net import densenet169, efficientnet_lite, resnet38, resnet50
from net.affinitynet import AffinityNet
from net.cam_net import CAMNet
from net.deeplab import HEADS, SegNet
from net.fast.for_inference import for_inference as for_inference
from net.network import NetFacts, Network
from net.saliency import SalNet
from net.seam import SEAMNet

BACKBONES = {**resnet50.BACKBONES, **densenet169.BACKBONES, **efficientnet_lite.BACKBONES, **resnet38.BACKBONES}
_KINDS = {
    "sigmoid": CAMNet, "softmax": CAMNet, "seam": SEAMNet, "affinity": AffinityNet, "saliency": SalNet,
    **dict.fromkeys(HEADS, SegNet),
}  # fmt: skip


def build(name: str, num_classes: int, **facts: Any) -> Network:
    """A network with random weights. facts: other fields of NetFacts. Raises ValueError for an unknown name or head."""
    return build_from(NetFacts(name, num_classes, **facts))


def build_from(facts: NetFacts, **kwargs: Any) -> Network:
    """As build, from the facts that a checkpoint holds; facts.head names the kind. kwargs: the kind's own."""
    if facts.head not in _KINDS:
        raise ValueError(f"unknown head {facts.head!r}: choose one of {', '.join(_KINDS)}")
    if facts.network not in BACKBONES:
        raise ValueError(f"unknown network {facts.network!r}: choose one of {', '.join(BACKBONES)}")
    return _KINDS[facts.head](BACKBONES[facts.network].build(facts), facts, **kwargs)
