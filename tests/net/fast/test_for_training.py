"""The twin that is trained: the function, the gradients and the parameters of the network that it stands for."""

import pytest
import torch
from torch.nn import functional as F

import net
from net.fast.depthwise import DepthwiseConv2d
from net.fast.for_training import FoldedConv2d, for_training
from net.network import Fixed

SHAPES = [  # side, kernel, stride, padding, dilation
    ((9, 11), 3, 1, 1, 1),
    ((9, 11), 5, 1, 2, 1),
    ((9, 11), 5, 1, 4, 2),
    ((10, 8), 5, 2, 2, 1),
    ((7, 7), 3, 2, 0, 1),
    ((7, 7), 3, 1, 4, 1),
    ((4, 5), (5, 6), 2, (2, 3), 1),
]


@pytest.mark.parametrize("channels", [3, 70])
@pytest.mark.parametrize(("side", "kernel", "stride", "padding", "dilation"), SHAPES)
def test_depthwise_gradients_are_torchs(channels, side, kernel, stride, padding, dilation):
    torch.manual_seed(0)
    kernel, stride, padding, dilation = (
        (v, v) if isinstance(v, int) else v for v in (kernel, stride, padding, dilation)
    )
    x = torch.randn(2, channels, *side).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(channels, 1, *kernel), torch.randn(channels)
    results = []
    for conv in (DepthwiseConv2d.apply, lambda *args: F.conv2d(*args, channels)):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        y = conv(*leaves, bias, stride, padding, dilation)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())


@pytest.mark.parametrize(
    ("name", "head", "dtype", "tolerance"),
    [
        ("efficientnet_lite0", "seam", torch.float32, 2e-3),  # with DepthwiseConv2d
        ("efficientnet_lite0", "sigmoid", torch.float64, 1e-8),
        ("resnet50", "seam", torch.float64, 1e-8),
        ("densenet169", "seam", torch.float64, 1e-8),
    ],
)
def test_the_twin_has_the_gradients_of_its_network(name, head, dtype, tolerance):
    torch.manual_seed(0)
    network = net.build(name, 3, head=head)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # batch norms that are no identity
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.9, 1.1)
            torch.nn.init.normal_(module.bias, std=0.1)
    network.fix(Fixed(network.backbone.early_layers, norms=True))
    network.to(dtype, memory_format=torch.channels_last).train()
    twin = for_training(network)
    assert any(isinstance(m, FoldedConv2d) for m in twin.modules())
    img = torch.randint(0, 256, (2, 3, 64, 48), dtype=torch.uint8)
    gradients = []
    for one in (network, twin.train(network.training)):
        network.zero_grad(set_to_none=True)
        torch.manual_seed(1)  # of dropout
        outputs = one.grid(img) if head == "seam" else one.cam(img)
        sum((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() for out in outputs).backward()
        gradients.append({k: p.grad.clone() for k, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, expected in gradients[0].items():
        assert (gradients[1][key] - expected).abs().max() <= tolerance * max(expected.abs().max(), 1e-3), key


def test_what_trains_the_one_trains_the_other_and_batch_norms_that_train_stay():
    network = net.build("efficientnet_lite0", 3, head="sigmoid")
    assert not any(isinstance(m, FoldedConv2d) for m in for_training(network.train()).modules())
    network.fix(Fixed(norms=True))
    twin = for_training(network.eval()).eval()
    img = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        before = twin(img)[0]
        network.classifier.weight.add_(1)
        network.backbone.stem[1].running_mean.add_(1)
        assert not torch.allclose(twin(img)[0], before)
        assert torch.allclose(twin(img)[0], network(img)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_bias_of_the_convolution_counts_and_trains(groups):
    conv, norm = torch.nn.Conv2d(4, 4, 3, groups=groups), torch.nn.BatchNorm2d(4).eval().requires_grad_(False)
    norm.running_mean.uniform_(), norm.running_var.uniform_(0.5, 2)
    x, gradients = torch.randn(1, 4, 6, 5), []
    for y in (norm(conv(x)), FoldedConv2d(conv, norm)(x)):
        conv.zero_grad()
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        gradients.append([y.detach(), conv.weight.grad, conv.bias.grad])
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)
