"""Named networks and their training: from a seed, kept in a folder, and asked for epochs where there is no recipe."""

from dataclasses import replace

import pytest
import torch

from nettrim import recipes
from nettrim.data import mnist5k
from nettrim.errors import ModelError
from tests.networks import samples, small


def few(name="mnist5k"):
    """The first images of real MNIST."""
    data = mnist5k()
    return replace(data, name=name, x_train=data.x_train[:60], y_train=data.y_train[:60])


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", list(recipes.NETWORKS))
def test_every_network_is_born_from_its_seed_and_takes_digits(name):
    assert equal(recipes.born(name, seed=2), recipes.born(name, seed=2))
    assert not equal(recipes.born(name, seed=2), recipes.born(name, seed=3))
    assert recipes.born(name).eval()(few().x_train[:2]).shape == (2, 10)
    assert {"mnist", "mnist5k"} <= recipes.NETWORKS[name].epochs.keys()


def test_what_was_trained_is_read_back(tmp_path):
    first = recipes.trained("lenet300", few(), epochs=1, seed=4, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name == "lenet300-mnist5k-4-1.safetensors"
    before = path.read_bytes()
    again = recipes.trained("lenet300", few(), epochs=1, seed=4, folder=tmp_path)
    assert equal(first, again) and path.read_bytes() == before and not again.training
    assert not equal(first, recipes.trained("lenet300", few(), epochs=2, seed=4, folder=tmp_path))


def test_a_network_of_your_own_is_trained_likewise(tmp_path):
    data = replace(few("mine"), x_train=samples(60), y_train=torch.arange(60) % 4)
    model = small()
    done = recipes.trained("here:small", data, model=model, epochs=2, folder=tmp_path)
    assert not equal(done, model) and equal(
        done, recipes.trained("here:small", data, model=model, epochs=2, folder=tmp_path)
    )
    with pytest.raises(ModelError, match="no recipe for here:small on 'mine': say how many epochs"):
        recipes.trained("here:small", data, model=model)


def test_what_there_is_no_recipe_for_is_refused():
    with pytest.raises(ModelError, match="no network is called 'vgg'; there are lenet300, lenet5"):
        recipes.born("vgg")
    with pytest.raises(ModelError, match="no recipe for lenet300 on 'other': say how many epochs"):
        recipes.trained("lenet300", few("other"))


def test_what_was_trained_from_another_start_is_not_taken(tmp_path):
    data = few()
    own = recipes.born("lenet300", seed=7)
    recipes.trained("lenet300", data, epochs=1, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for other, model in ((data, own), (replace(data, x_train=data.x_train.flip(0)), None)):
        with pytest.raises(ModelError, match="holds a network of another start, other data or another recipe"):
            recipes.trained("lenet300", other, model=model, epochs=1, folder=tmp_path)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-100])
    with pytest.raises(ModelError, match=r"cannot be read .*: remove it, and the network is trained again"):
        recipes.trained("lenet300", data, epochs=1, folder=tmp_path)
    with pytest.raises(ModelError, match="at least one epoch; got epochs=0"):
        recipes.trained("lenet300", data, epochs=0)


def test_tied_weights_are_kept(tmp_path):
    data = replace(few("mine"), x_train=samples(60), y_train=torch.arange(60) % 4)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 12), torch.nn.Linear(12, 12), torch.nn.Linear(12, 4))
    model[2].weight = model[1].weight
    done = recipes.trained("here:tied", data, model=model, epochs=1, folder=tmp_path)
    read = recipes.trained("here:tied", data, model=model, epochs=1, folder=tmp_path)
    assert equal(done, read) and read[1].weight is read[2].weight
