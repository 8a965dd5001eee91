"""A CAM network: a backbone without global pooling, then a 1x1 convolution; one forward gives logits and maps.

Zhou et al., CVPR 2016 (CAM); Ahn et al., CVPR 2019 (IRN's form).
"""

from torch import Tensor, nn

from net.network import Backbone, NetFacts, Network


class CAMNet(Network):
    """classifier: 1x1 convolution D -> K on the backbone's last tap."""

    def __init__(self, backbone: Backbone, facts: NetFacts):
        super().__init__(backbone, facts)
        self.classifier = nn.Conv2d(backbone.tap_dims[-1], facts.num_classes, 1, bias=facts.head == "softmax")

    def features(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255, uint8 or float -> features (N,D,h,w)."""
        return self.backbone(self.normalised(img))

    def cam(self, img: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K) and cam (N,K,h,w) before ReLU; logits are its spatial mean.

        With keys (P,), class ids, maps (N,P,h,w) of these classes only.
        """
        cam = self.classifier(self.features(img))
        return cam.mean((2, 3)), cam if keys is None else cam[:, keys]

    def logits(self, features: Tensor) -> Tensor:
        """features (N,D,h,w) -> logits (N,K): cam's logits without the maps (pooling and classifier commute)."""
        return self.classifier(features.mean((2, 3), keepdim=True)).flatten(1)

    def maps(self, features: Tensor, keys: Tensor) -> Tensor:
        """features (N,D,h,w), class ids keys (P,) -> their CAMs (N,P,h,w) before ReLU."""
        weight, bias = (
            self.classifier.weight[keys],
            None if self.classifier.bias is None else self.classifier.bias[keys],
        )
        if features.is_cpu:
            return nn.functional.conv2d(features, weight, bias)
        maps = (weight.flatten(1) @ features.flatten(2)).unflatten(2, features.shape[2:])  # any P without a new plan
        return maps if bias is None else maps + bias[:, None, None]

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (..., K) -> class probabilities (..., K) by the head's own rule."""
        return logits.sigmoid() if self.facts.head == "sigmoid" else logits.softmax(-1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        return self.cam(img)
