"""DenseNet-169 as a CAM backbone: 1664 features at stride 8 (Huang et al., CVPR 2017; MFNet, ICCV 2021)."""

import re

from torch import Tensor, nn
from torchvision.models import DenseNet169_Weights, densenet169

from net.backbone import Source, Torchvision, imagenet_classifier, published_cam
from net.network import Backbone, Fixed, Named, State


class DenseNet169(Backbone):
    """torchvision's DenseNet-169 without pooling and head.

    layout "cam": no max-pool after the stem and no pooling in transition3 (stride 8); norm5 without a ReLU after it, as
    generatePGT trains it. layout "imagenet": the stem's max-pool stays, transition3 averages without a stride and
    denseblock4 is dilated by 2 (stride 16), then norm5 and ReLU: what the ImageNet classifier reads, on a denser grid.
    """

    tap_dims = (256, 1280, 1664)
    early_layers = ("features.conv0", "features.norm0")  # not trained by generatePGT
    cam_fixed = Fixed((*early_layers, "features.denseblock1"))  # where it stops the gradient
    conv_norms = (("conv0", "norm0"), ("conv1", "norm2"))

    def __init__(self, layout: str):
        super().__init__()
        self.stride = 8 if layout == "cam" else 16
        self.quarter_dim, self._quarter = (128, "transition1") if layout == "cam" else (256, "denseblock1")
        features = densenet169(weights=None).features
        if layout == "cam":
            features.pool0 = features.transition3.pool = nn.Identity()
        else:
            features.transition3.pool = nn.Sequential(nn.ReplicationPad2d((0, 1, 0, 1)), nn.AvgPool2d(2, stride=1))
            for layer in features.denseblock4.values():
                layer.conv2.dilation = layer.conv2.padding = (2, 2)
        self.features = features
        self.relu = nn.Identity() if layout == "cam" else nn.ReLU(inplace=True)

    def quarter(self, x: Tensor) -> Tensor:
        """-> what transition1 (layout "cam") or denseblock1 gives."""
        for layer in self._layers()[0]:
            x = layer(x)
        return x

    def deeper(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> what transition2 (stride 8 in layout "cam"), denseblock3 and the last layer give."""
        kept = []
        for layer in self._layers()[1]:
            x = layer(x)
            if layer in (self.features.transition2, self.features.denseblock3):
                kept.append(x)
        return kept[0], kept[1], self.relu(x)

    def _layers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Those at strides up to 4, and the rest."""
        names, layers = zip(*self.features.named_children(), strict=True)
        end = names.index(self._quarter) + 1
        return [*layers[:end]], [*layers[end:]]


def published(state: State) -> Named | None:
    """The state dict of generatePGT's CAM network, or of torchvision's classifier; None if it is neither."""
    classifier = imagenet_classifier(state, "densenet169", "features.norm5.weight", "classifier.", _torchvision_name)
    return classifier or published_cam(state, "densenet169", "densenet169.features.", _published_name)


def _published_name(key: str) -> str | None:
    """A key of generatePGT's DenseNet (layers numbered within Sequentials) -> torchvision's name of the same tensor;
    None for one that the file holds twice."""
    if re.match(r"(block\d|denseblock4\.32)\.", key):
        return None
    parts = key.split(".")
    if parts[0].startswith("denseblock"):
        parts[1] = f"denselayer{int(parts[1]) + 1}"
    elif parts[0].startswith("transition"):
        parts[1] = {"0": "norm", "2": "conv"}[parts[1]]
    return ".".join(["features", *parts])


def _torchvision_name(key: str) -> str:
    """A key of torchvision's file, which still has the dotted names of its first release -> of its model."""
    return re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", key)


_WEIGHTS = Torchvision(DenseNet169_Weights.IMAGENET1K_V1.url)
BACKBONES = {"densenet169": Source(lambda facts: DenseNet169(facts.layout), published, _WEIGHTS)}
