"""The convolutional network of the CIFAR-10 scripts: its images, its sizes and its rows in small."""

import pytest
import torch
from reproduce import convnet

from benchmarks import rows
from nettrim.data import Data
from nettrim.masks import weights


def test_images_are_standardized_each_channel_of_each():
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    images[1, 2] = 0.25
    out = convnet.Standardized()(images)
    assert (out[1, 2] == 0).all()  # an even channel
    out = torch.cat([out[:1], out[2:]])
    assert out.mean((2, 3)).abs().max() < 1e-5
    assert torch.allclose(out.pow(2).mean((2, 3)), torch.ones(2, 3), atol=1e-4)


def test_parts_of_images_are_drawn_from_everywhere_and_seeded():
    place = torch.arange(32.0)
    images = torch.stack([place.view(-1, 1).expand(32, 32), place.expand(32, 32)]).repeat(400, 1, 1, 1)  # row, column
    parts = convnet.cut(images, torch.Generator().manual_seed(0), flip=True)
    assert parts.shape == (400, 2, 24, 24)
    assert torch.equal(parts[:, 0].diff(dim=1), torch.ones(400, 23, 24))
    step = parts[:, 1].diff(dim=2)[:, 0, 0]
    assert set(step.tolist()) == {1.0, -1.0} and 150 < int((step < 0).sum()) < 250  # half of them flipped
    assert parts[:, 0, 0, 0].unique().tolist() == list(range(9)) == parts[:, 1].amin((1, 2)).unique().tolist()
    again = convnet.cut(images, torch.Generator().manual_seed(0), flip=True)
    never = convnet.cut(images, torch.Generator().manual_seed(0), flip=False)
    assert torch.equal(again, parts) and (never[:, 1].diff(dim=2) == 1).all()


def test_the_middle_of_an_image_is_its_middle():
    images = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    part = convnet.middle(Data("some", images, torch.zeros(1), images, torch.zeros(1))).x_test
    assert torch.equal(part, images[:, :, 4:28, 4:28])


def test_the_network_has_the_sizes_of_the_scripts():
    state = torch.get_rng_state()
    model = convnet.network(3, 0.5, 0)
    assert torch.equal(torch.get_rng_state(), state)
    sizes = [weight.numel() for weight in weights(model).values()]
    assert sizes == [4800, 102_400, 884_736, 73_728, 1920] and sum(sizes[2:]) == 960_384
    assert model(torch.rand(2, 3, 24, 24)).shape == (2, 10)


def test_gains_in_small(tmp_path):
    settings = convnet.CIFAR.frozen(quick=True)
    whole, row = rows.read(convnet.CIFAR.make(settings, folder=tmp_path, networks=tmp_path))
    assert row["solved"] == "True" and 0 < float(row["kept"]) < 0.5 and 0 < float(row["discrepancy"]) < 1
    assert whole["nettrim"] == whole["accuracy"] and whole["nettrim_tuned"] and not whole["hptd"]
    assert row["nettrim_tuned"] and row["hptd_tuned"]
    assert len(list(tmp_path.glob("convnet-*.safetensors"))) == 1


@pytest.mark.parametrize("figure", convnet.FIGURES, ids=lambda figure: figure.name)
def test_both_data_sets_have_a_figure(figure):
    assert figure.settings["data"] in figure.name.replace("cifar", "cifar10")
    assert figure.settings["flip"] == (figure is convnet.CIFAR)  # a digit flipped is no digit
