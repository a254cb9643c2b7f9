"""Calibration in every form, and captures that are copies and leave no hook behind."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nettrim import ModelError
from nettrim.activations import capture, forward, gather, layer_inputs
from tests.networks import OneReLU, samples, small


def test_samples_are_drawn_with_the_seed_and_without_replacement():
    x = torch.arange(100.0).reshape(50, 2)
    first, again, other = (gather(x, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 20
    assert torch.equal(gather(x, 500, 0), x)


def test_batches_of_every_form_give_the_same_samples():
    x = samples(30)
    labels = torch.zeros(30, dtype=torch.long)
    forms = [
        list(x.split(7)),
        [batch.numpy() for batch in x.split(7)],
        [(batch, None) for batch in x.split(7)],
        DataLoader(TensorDataset(x, labels), batch_size=8),
        (batch for batch in x.split(4)),
    ]
    for form in forms:
        assert torch.equal(gather(form, 25, 0), x[:25])


def test_numpy_arrays_may_be_read_only_and_not_contiguous():
    x = np.arange(24.0).reshape(6, 4)[:, ::2]
    x.flags.writeable = False
    assert torch.equal(gather(x, 9, 0), torch.from_numpy(x.copy()))


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (torch.empty(0, 3), "no samples"),
        ([], "no samples"),
        (torch.tensor(1.0), "no samples"),
        (torch.tensor([[1.0, 2.0], [float("nan"), 0.0]]), "NaN or Inf, first in sample 1"),
        (np.array([["a"]]), "must hold numbers"),
        (7, "must be a tensor"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "differ in shape"),
    ],
)
def test_bad_calibration_is_refused(calibration, message):
    with pytest.raises(ModelError, match=message):
        gather(calibration, 10, 0)


def test_no_samples_asked_is_refused():
    with pytest.raises(ModelError, match="n_samples must be at least 1"):
        gather(samples(), 0, 0)


def test_captured_inputs_are_what_the_layer_saw_in_spite_of_a_relu_in_place():
    model, x = OneReLU().eval(), samples()
    with torch.no_grad():
        expected = torch.relu(model.a(x.flatten(1)))
    assert torch.equal(layer_inputs(model, "b", x, batch_size=7), expected)


def test_captures_are_copies_and_the_hook_goes_even_after_an_error():
    model = small().eval()
    x = samples()
    with capture(model, "1") as seen:
        forward(model, x)
    seen[0][:] = 7
    assert not bool((x == 7).any())
    with pytest.raises(RuntimeError, match="by hand"), capture(model, "1"):
        raise RuntimeError("by hand")
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_layer_on_sequences_takes_its_tokens_as_samples():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = samples(6)
    assert torch.equal(layer_inputs(model, "0", x), x.reshape(18, 4))


def test_forward_is_in_evaluation_mode_and_restores_each_modules_own_mode():
    model = small().train()
    model[3].eval()
    before = [module.training for module in model.modules()]
    x = samples()
    assert torch.equal(forward(model, x), forward(model, x))  # dropout would differ
    assert [module.training for module in model.modules()] == before


def test_samples_that_do_not_fit_are_refused_with_their_shape():
    with pytest.raises(ModelError, match=r"samples of shape \(5,\) do not fit the model"):
        forward(small(), torch.zeros(3, 5))
