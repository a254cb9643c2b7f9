"""Calibration in every form, and captures that are copies and leave no hook behind."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nettrim import ModelError
from nettrim.activations import Draw, forward, gather, record, survey
from nettrim.layers import plain
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


def layer_inputs(model, name, x, rows=None):
    """Return X (N, P) of a layer, all samples or those at some places."""
    layer = plain(model.get_submodule(name))
    _, shapes = survey(model, {name: layer}, x)
    rows = torch.arange(sum(layer.rows(torch.empty(shape)) for shape in shapes[name])) if rows is None else rows
    return record(model, {name: Draw(layer, rows)}, x)[name]


def test_recorded_inputs_are_what_the_layer_saw_in_spite_of_a_relu_in_place():
    model, x = OneReLU().eval(), samples(1200)  # more than a batch
    with torch.no_grad():
        expected = torch.relu(model.a(x.flatten(1))).T.numpy()
    found = layer_inputs(model, "b", x)
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-5, atol=1e-6)  # products of other batch sizes
    assert np.array_equal(found[-1], np.ones(1200))  # of the bias
    rows = torch.tensor([3, 499, 500, 501, 1100])
    assert np.array_equal(layer_inputs(model, "b", x, rows), found[:, rows])


def test_several_layers_are_recorded_in_one_run_that_ends_at_the_last_of_them():
    model, x = small().eval(), samples()
    model[6].register_forward_pre_hook(lambda *_: pytest.fail("the run went on"))
    draws = {name: Draw(plain(model.get_submodule(name)), torch.arange(5)) for name in ("1", "4")}
    together = record(model, draws, x)
    assert {name: X.shape for name, X in together.items()} == {"1": (13, 5), "4": (10, 5)}
    assert all(np.array_equal(record(model, {name: draws[name]}, x)[name], together[name]) for name in draws)


def test_recordings_are_copies_and_the_hook_goes_even_after_an_error():
    model = small().eval()
    x = samples()
    layer_inputs(model, "1", x)[:] = 7
    assert not bool((x == 7).any())
    with pytest.raises(ModelError, match="do not fit"):
        record(model, {"4": Draw(plain(model[4]), torch.arange(5))}, torch.zeros(3, 5))
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_a_layer_on_sequences_takes_its_tokens_as_samples():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    x = samples(6)
    assert np.array_equal(layer_inputs(model, "0", x)[:-1], x.reshape(18, 4).T.numpy())


def test_a_survey_tells_what_ran_in_which_order_and_how_often():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.never, self.last, self.first = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.first(self.first(x)))

    model, x = Backwards(), samples(700)
    outputs, shapes = survey(model, {name: plain(module) for name, module in model.named_children()}, x)
    assert torch.equal(outputs, forward(model, x))
    assert list(shapes) == ["first", "last", "never"]
    assert [len(calls) for calls in shapes.values()] == [4, 2, 0]  # two batches


def test_a_model_that_returns_no_tensor_is_refused():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x), x

    with pytest.raises(ModelError, match="must return a tensor; got tuple"):
        forward(Pair(), samples())


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
