"""The two networks of CIFAR-10: what they compute, and that every layer of theirs is read from the graph and trimmed."""

import pytest
import torch
from torch import nn

from nettrim import trim
from nettrim.graph import trace
from nettrim.models import resnet20, separable


def convolutions(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]


def images(n):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def settled(model):
    """Give the normalizations of a model the statistics of some images, and scales and shifts of their own."""
    draw = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=draw)
            nn.init.normal_(module.bias, 0.0, 0.2, generator=draw)
    with torch.no_grad():
        model.train()(images(16))
    return model.eval()


def test_sizes_are_those_of_the_paper():
    model = resnet20()
    assert sum(p.numel() for p in model.parameters()) == 269_722  # "0.27M" in its table 6
    assert sum(p.numel() for p in model.parameters() if p.ndim > 1) == 268_336
    assert len(convolutions(model)) == 19
    assert resnet20(width=2, classes=7)(images(2)).shape == (2, 7)
    model = separable()
    assert sum(p.numel() for p in model.parameters()) == 205_642
    assert sum(p.numel() for p in model.parameters() if p.ndim > 1) == 201_664
    assert separable(width=2, classes=7)(images(2)).shape == (2, 7)


def test_sizes_that_cannot_be_are_refused():
    for asked in ({"width": 0}, {"width": 3}, {"classes": 0}):
        with pytest.raises(ValueError, match="width must be an even positive number and classes positive"):
            resnet20(**asked)
    for asked in ({"width": 0}, {"classes": 0}):
        with pytest.raises(ValueError, match="width and classes must be positive"):
            separable(**asked)


@pytest.mark.parametrize("make", [resnet20, separable])
def test_images_are_centered_inside(make):
    assert make()[0](torch.tensor([0.0, 0.5, 1.0])).tolist() == [-2, 0, 2]


def test_shortcuts_are_every_other_pixel_and_zeros_for_new_channels():
    model = resnet20(width=4)
    blocks = [module for module in model if hasattr(module, "second")]
    assert len(blocks) == 9
    for block in blocks:
        nn.init.zeros_(block.second[1].weight)  # the last normalization then gives its bias, 0
        n_in, n_out = block.first[0].in_channels, block.first[0].out_channels
        x = torch.randn(2, n_in, 8, 8, generator=torch.Generator().manual_seed(0))
        y = block.eval()(x)
        if n_in == n_out:
            assert torch.equal(y, x.relu())
        else:
            new = (n_out - n_in) // 2
            assert torch.equal(y[:, new : new + n_in], x[:, :, ::2, ::2].relu())
            assert not y[:, :new].any() and not y[:, new + n_in :].any() and y.shape == (2, 2 * n_in, 4, 4)


def test_every_layer_of_resnet20_is_read_from_the_graph():
    model = resnet20().eval()
    graph = trace(model)
    uses = {use.name: use for use in graph.layers}
    assert graph.traced and list(uses) == [*convolutions(model), "15"]
    for name in convolutions(model):
        assert isinstance(model.get_submodule(uses[name].norm), nn.BatchNorm2d)
        if ".second." in name:
            assert uses[name].activation == "linear" and "followed by add, not by ReLU alone" in uses[name].note
        else:
            assert uses[name].activation == "relu" and uses[name].note == ""
    assert uses["15"].activation == "linear" and uses["15"].last


def test_every_layer_of_the_separable_network_is_read_from_the_graph():
    model = separable().eval()
    graph = trace(model)
    *found, last = graph.layers
    assert graph.traced and [use.name for use in found] == convolutions(model)
    assert all(use.activation == "relu" and use.norm and not use.note for use in found)
    groups = [model.get_submodule(use.name).groups for use in found]
    assert groups == [1, 32, 1, 64, 1, 128, 1, 128, 1, 256, 1, 256, 1]
    assert last.activation == "linear" and last.last


@pytest.mark.parametrize("make", [resnet20, separable])
def test_every_layer_is_trimmed_with_its_certificate(make):
    model = settled(make(width=2))
    result = trim(model, images(8), 0.2, n_samples=100, holdout=images(4))
    assert [row.name for row in result.layers] == [use.name for use in trace(model).layers]
    assert {row.status for row in result.layers} == {"SOLVED"} and result.worst_gap <= 1e-3
    assert all(row.achieved <= 0.2 * (1 + 1e-3) and row.weights_kept < row.weights for row in result.layers)
    assert [row.kind for row in result.layers] == ["Conv2d+BatchNorm2d"] * (len(result.layers) - 1) + ["Linear"]
