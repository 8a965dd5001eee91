"""SEAM: a CAM network whose maps a pixel correlation module (PCM) revises. Wang et al., CVPR 2020."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.network import Backbone, Fixed, NetFacts, Network, resized

_EPS = 1e-5
_BLOCK = 1 << 24  # affinities held at once; rounding does not depend on it, each column is summed whole


class SEAMNet(Network):
    """backbone with taps, a 1x1 classifier of facts.num_classes + 1 channels (0 is background), and the PCM.

    On net.resnet38 as published; other backbones' lower taps are brought to the grid of the last. As published nothing
    of the batch norms is trained; fix_norms=False trains them, for backbones that start from other data.
    """

    def __init__(self, backbone: Backbone, facts: NetFacts, fix_norms: bool = True):
        super().__init__(backbone, facts)
        self.fix(Fixed(backbone.early_layers, norms=fix_norms))
        low, middle, last = backbone.tap_dims
        self.dropout = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(last, facts.num_classes + 1, 1, bias=False)
        self.f8_3 = nn.Conv2d(low, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(middle, 128, 1, bias=False)
        self.f9 = nn.Conv2d(64 + 128 + 3, 64 + 128, 1, bias=False)
        nn.init.xavier_uniform_(self.fc8.weight)
        nn.init.kaiming_normal_(self.f8_3.weight)
        nn.init.kaiming_normal_(self.f8_4.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def pcm_weights(self) -> tuple[nn.Parameter, ...]:
        return self.f8_3.weight, self.f8_4.weight, self.f9.weight

    @torch.no_grad()
    def whiten_pcm(self, img: Tensor, dims: int = 64) -> None:
        """Starts f9 as the whitening of its input over the pixels of img (N,3,H,W), on its `dims` main directions.

        Features are positive: under random projections the cosine of any two pixels is near 1, the PCM smears maps over
        the whole image, and it takes a long training to learn better. Whitened, only what differs from the mean counts.
        """
        features, training = [], self.training
        hook = self.f9.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].cpu().double()))
        self.eval()
        for one in img.split(1):
            self.grid(one)
        hook.remove()
        self.train(training)
        pixels = torch.cat([f.flatten(2)[0].T for f in features])
        mean = pixels.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov(pixels.T))
        used = variances[-dims:] > 1e-6 * variances[-1]
        rows = (directions[:, -dims:][:, used] / variances[-dims:][used].sqrt()).T
        rows -= (rows @ mean)[:, None] * mean / (mean @ mean)  # f9 has no bias that could take the mean away
        self.f9.weight.zero_()
        self.f9.weight[: len(rows), :, 0, 0] = rows.to(self.f9.weight)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """img (N,3,H,W) RGB in 0..255 -> cam and cam_rv (N,K+1,H,W), and the logits that cam is made of (N,K+1,h,w).

        cam is before ReLU; cam_rv, what the PCM makes of it, is in [0, 1], and its gradient reaches the PCM only.
        """
        logits, cam_rv = self.grid(img)
        size = img.shape[2:]
        return resized(logits, size), resized(cam_rv, size), logits

    def cam(self, img: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K) and the revised maps (N,K,H,W) in [0, 1], as CAMNet.cam.

        With keys (P,), foreground class ids from 0, maps (N,P,H,W) of these classes only; their values are the same.
        """
        channels = slice(1, None) if keys is None else keys + 1
        logits, cam_rv = self.grid(img, channels)
        return logits[:, 1:].mean((2, 3)), resized(cam_rv, img.shape[2:])

    def grid(self, img: Tensor, channels: slice | Tensor = slice(None)) -> tuple[Tensor, Tensor]:
        """-> logits (N,K+1,h,w) as forward's, and cam_rv of these channels (N,P,h,w), on the grid of the last tap."""
        x = self.normalised(img)
        *taps, last = self.backbone.taps(x)
        logits = self.fc8(self.dropout(last))
        size = logits.shape[2:]
        # detached, as published: what cam_rv loses trains the PCM's own layers only
        low, middle = (resized(tap.detach(), size) for tap in taps)
        low, middle = F.relu(self.f8_3(low), inplace=True), F.relu(self.f8_4(middle), inplace=True)
        features = torch.cat([resized(x, size), low, middle], 1)
        return logits, self.pcm(normalised_cam(logits.detach())[:, channels], features)

    def pcm(self, cam: Tensor, features: Tensor) -> Tensor:
        """cam (N,C,*,*), features (N,195,h,w) -> cam (N,C,h,w) averaged over alike pixels (SEAM, section 3.3).

        Weights are the positive cosines of f9's embeddings, divided by their sum over all pixels. Affinities are
        made, used and dropped block by block of columns.
        """
        size = features.shape[2:]
        f = self.f9(features).flatten(2)
        f = f / (f.norm(dim=1, keepdim=True) + _EPS)
        cam = resized(cam, size).flatten(2)
        # a channel of ones beside the maps gives the sum of the weights in the same product
        cam = torch.cat([cam, cam.new_ones(len(cam), 1, cam.shape[2])], 1)
        rows = f.transpose(1, 2)
        width = max(1, _BLOCK // f.shape[2])
        total = torch.cat([cam @ F.relu(rows @ columns, inplace=True) for columns in f.split(width, 2)], 2)
        return (total[:, :-1] / (total[:, -1:] + _EPS)).unflatten(2, size)


def normalised_cam(cam: Tensor) -> Tensor:
    """cam (N,K+1,h,w) before ReLU -> in [0, 1]: each class by its maximum, kept where it is the highest of the
    foreground; background (channel 0) is 1 - that highest."""
    cam = F.relu(cam)
    cam = F.relu(cam[:, 1:] - _EPS) / (cam[:, 1:].amax((2, 3), keepdim=True) + _EPS)
    highest = cam.amax(1, keepdim=True)
    return torch.cat([1 - highest, cam * (cam == highest)], 1)


def classifier_of(network: Network) -> nn.Conv2d:
    """Of a SEAM network, background first, or of a CAM network."""
    return network.fc8 if isinstance(network, SEAMNet) else network.classifier
