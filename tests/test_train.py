"""The networks and the one training loop: exact sizes, seeds by hand, and a loss that goes down on real digits."""

import pytest
import torch
from torch import nn

from nettrim.data import mnist5k
from nettrim.models import lenet5, lenet300, mlp
from nettrim.train import accuracy, evaluating, train
from tests.networks import samples, small


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_are_those_of_the_literature():
    assert size(lenet300()) == 266_610
    assert size(lenet5()) == 431_080
    assert lenet5()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert mlp((6, 5, 4, 3))(torch.zeros(2, 2, 3)).shape == (2, 3)
    assert sum(isinstance(module, nn.Dropout) for module in lenet300(dropout=0.1)) == 2


@pytest.mark.parametrize("make", [lenet300, lenet5])
def test_models_come_from_their_seed_and_leave_the_global_generator_alone(make):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="at least two positive widths"):
        mlp((5,))
    with pytest.raises(ValueError, match="at least two positive widths"):
        mlp((5, 0, 2))
    with pytest.raises(ValueError, match="dropout must be"):
        mlp((5, 2), dropout=1.0)


def test_training_learns_real_digits_from_its_seed_and_leaves_the_model_alone():
    data = mnist5k()
    x, y = data.x_train[:1500], data.y_train[:1500]
    model = mlp((784, 40, 10), dropout=0.2)
    before = [parameter.clone() for parameter in model.parameters()]
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    trained, again = (train(model, x, y, epochs=8, seed=7) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))
    assert not trained.training
    assert accuracy(trained, data.x_test, data.y_test) > 0.8 > accuracy(model, data.x_test, data.y_test)


def test_training_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="as many labels as inputs"):
        train(small(), samples(4), torch.zeros(3, dtype=torch.long))
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(small(), samples(4) * float("inf"), torch.zeros(4, dtype=torch.long))


def test_accuracy_counts_and_restores_the_modes():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9)).train()
    model[0].eval()
    logits = torch.eye(4)
    assert accuracy(model, logits, torch.tensor([0, 1, 2, 0]), batch_size=3) == 0.75
    assert [module.training for module in model.modules()] == [True, False, True]
    with pytest.raises(ValueError, match="as many labels as inputs"):
        accuracy(model, logits, torch.zeros(3))
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.training
