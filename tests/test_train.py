"""The networks and the one training loop: exact sizes, seeds by hand, and a loss that goes down on real digits."""

import numpy as np
import pytest
import torch
from torch import nn

from nettrim.augment import augmented
from nettrim.data import mnist5k
from nettrim.evaluate import accuracy, evaluating
from nettrim.models import lenet5, lenet300, mlp, resnet20, separable
from nettrim.train import train
from tests.networks import samples, small


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_sizes_are_those_of_the_literature():
    assert size(lenet300()) == 266_610
    assert size(lenet5()) == 431_080
    assert lenet5()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert mlp((6, 5, 4, 3))(torch.zeros(2, 2, 3)).shape == (2, 3)
    assert sum(isinstance(module, nn.Dropout) for module in lenet300(dropout=0.1)) == 2


@pytest.mark.parametrize("make", [lenet300, lenet5, resnet20, separable])
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


def images(n, seed=0, size=(9, 11)):
    """Random images ``(n, 2, height, width)`` in [0, 1)."""
    return torch.rand(n, 2, *size, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_augmented_images_are_crops_of_mirrored_ones_flipped_or_not():
    given = images(400)
    before = given.clone()
    found = augmented(given, torch.Generator().manual_seed(2)).numpy()
    assert torch.equal(given, before) and found.shape == given.shape
    draws = []
    for image, came in zip(given.numpy(), found, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        crops = {(i, j): padded[:, i : i + 9, j : j + 11] for i in range(9) for j in range(9)}
        fits = [(*at, flip) for at, crop in crops.items() for flip in (1, -1) if np.array_equal(crop[:, :, ::flip], came)]
        assert len(fits) == 1
        draws.append(fits[0])
    # 400 images miss one of 9 shifts with a probability of (8/9)^400 < 1e-20; flips are 200, give or take 5 times 10.
    down, right, flip = np.transpose(draws)
    assert set(down) == set(right) == set(range(9)) and abs(np.sum(flip == 1) - 200) < 50
    assert abs(np.corrcoef(np.transpose(draws).astype(float))[np.triu_indices(3, 1)]).max() < 0.25  # 5 deviations of 1/20


def test_augmenting_takes_images_larger_than_the_shift():
    for wrong in (torch.zeros(3, 4), images(2, size=(4, 9)), images(2, size=(9, 4))):
        with pytest.raises(ValueError, match=r"takes images \(n, channels, height, width\) of more than 4 pixels"):
            augmented(wrong, torch.Generator())


def test_augmented_training_comes_from_its_seed_and_is_off_unless_asked():
    x, y = images(40), torch.arange(40) % 3
    model = mlp((198, 8, 3), dropout=0.3)
    plain, off, on, again, other = (
        train(model, x, y, epochs=2, batch_size=16, **more)
        for more in ({}, {"augment": False}, {"augment": True}, {"augment": True}, {"augment": True, "seed": 1})
    )
    assert same(plain, off) and same(on, again)
    assert not same(plain, on) and not same(on, other)


def test_what_follows_an_epoch_sees_each_and_changes_none():
    x, y = images(40), torch.arange(40) % 3
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Flatten(), nn.Linear(189, 3))
    seen = []

    def look(done, network):
        torch.rand(3)
        seen.append((done, network.training, accuracy(network, x, y)))

    watched = train(model, x, y, epochs=3, batch_size=16, augment=True, momentum=0.9, after_epoch=look)
    assert same(watched, train(model, x, y, epochs=3, batch_size=16, augment=True, momentum=0.9))
    assert [row[:2] for row in seen] == [(1, True), (2, True), (3, True)]
    assert seen[-1][2] == accuracy(watched, x, y)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_sgd_makes_the_steps_of_one_cycle_with_nesterov_momentum(momentum):
    # Two logits (w, 0) and labels of the first: the gradient at w is -1/(1 + e^w), so the steps can be made by hand.
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    trained = train(model, torch.ones(4, 1), torch.zeros(4, dtype=torch.long), epochs=4, batch_size=1, momentum=momentum)
    w, speed = 0.0, 0.0
    for step in range(16):
        part = (step + 1) / 17
        gradient = -1 / (1 + np.exp(2 * w))  # the logits are (w, -w)
        speed = momentum * speed + gradient
        w -= 1e-3 * min(part / 0.2, (1 - part) / 0.8) * (gradient + momentum * speed)
    # 16 steps in float32, each rounded to 2^-24 of w < 0.01.
    assert trained.weight.flatten().tolist() == pytest.approx([w, -w], rel=1e-5)


def test_training_refuses_what_it_cannot_use():
    for momentum in (1.0, -0.5):
        with pytest.raises(ValueError, match="momentum must be at least 0 and below 1, or None for Adam"):
            train(small(), samples(4), torch.zeros(4, dtype=torch.long), momentum=momentum)
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
