"""The product of patches and weights is the layer's own output, for every option of a convolution."""

import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

from nettrim.layers import plain, read
from nettrim.patches import patches, positions
from tests.convolutions import convolutions


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@settings(max_examples=150)
@given(convolutions())
def test_products_with_patches_are_the_outputs(drawn):
    layer, images = drawn
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            expected = layer(images)
        except RuntimeError as error:  # torch itself cannot: padding larger than the input, a kernel that does not fit
            assume("adding" not in str(error) and "ernel size" not in str(error))
            raise
    assert positions(layer, images.shape) == expected.shape[2:]
    wrapped = plain(layer)
    assert wrapped.rows(images) == expected[:, 0].numel()
    rows = torch.randperm(wrapped.rows(images), generator=torch.Generator().manual_seed(0))[:20].sort().values
    X = wrapped.columns(images, rows).numpy()
    outputs = expected.movedim(1, -1).reshape(-1, layer.out_channels)[rows].T.numpy()
    size, at = len(X) // layer.groups, 0
    for g, W in enumerate(read(wrapped)):
        own = X[g * size : (g + 1) * size]
        z = W[: len(own)].T @ own + (W[-1:].T if layer.bias is not None else 0.0)
        assert abs(z - outputs[at : at + len(z)]).max() <= 1e-12 * max(1, abs(outputs).max())
        at += len(z)


def test_an_image_without_an_axis_of_images():
    layer, image = plain(nn.Conv2d(2, 3, 2)), torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(20)
    assert layer.rows(image) == 20
    assert torch.equal(layer.columns(image, rows), layer.columns(image[None], rows))


def test_patches_are_copies():
    layer, images = nn.Conv1d(1, 1, 2), torch.arange(5.0).reshape(1, 1, 5)
    cut = patches(layer, images, torch.tensor([0, 3]))
    assert cut.tolist() == [[[0.0, 1.0]], [[3.0, 4.0]]]
    cut[:] = 7
    assert images.max() == 4


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "Conv3d"])
def test_every_kind_is_named(name):
    assert plain(getattr(nn, name)(2, 2, 1)).kind == name
