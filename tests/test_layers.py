"""What is read from a layer is what it computes, what is written is read back, and an attention is four linear layers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nettrim import ModelError, batchnorm, load, trim
from nettrim.activations import Draw, forward, record
from nettrim.graph import trace
from nettrim.layers import find, plain, read, write


def randomized(norm, seed=0):
    """Return a normalization as training might leave it: no number is what it was at first."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for array in (norm.weight, norm.bias, norm.running_mean):
            array.copy_(torch.randn(array.shape, generator=random))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=random) + 0.1)
    return norm.eval()


PAIRS = {
    "linear": (nn.Linear(5, 6), nn.BatchNorm1d(6), (7, 5)),
    "no bias": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (7, 4, 5, 5)),
    "bias": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), (7, 4, 5, 5)),
    "groups": (nn.Conv1d(4, 6, 2, groups=2), nn.BatchNorm1d(6), (7, 4, 5)),
}


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def folded(request):
    """Return a layer in float64 with its normalization, and an input."""
    module, norm, shape = copy.deepcopy(request.param)
    layer = plain(module.double(), randomized(norm.double()))
    return layer, torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def responses(layer, inputs, W):
    """Return ``W'X`` (n_out, P), the groups below each other."""
    X = layer.columns(inputs, torch.arange(layer.rows(inputs))).numpy()
    size = len(X) // layer.groups
    return np.vstack([w[:-1].T @ X[g * size : (g + 1) * size] + w[-1:].T for g, w in enumerate(W)])


def outputs(layer, inputs):
    with torch.no_grad():
        z = layer.norm(layer.module(inputs))
    return z.movedim(1, -1).reshape(-1, z.shape[1]).T.numpy()


def test_a_normalization_is_part_of_the_layer(folded):
    layer, inputs = folded
    np.testing.assert_allclose(responses(layer, inputs, read(layer)), outputs(layer, inputs), rtol=0, atol=1e-12)


def test_what_is_written_is_read_back_and_is_what_the_model_computes(folded):
    layer, inputs = folded
    rng = np.random.default_rng(0)
    W = [np.where(rng.random(w.shape) < 0.5, rng.standard_normal(w.shape), 0.0) for w in read(layer)]
    expected = layer.storage.stored(W)
    write(layer, W)
    for found, wanted, asked in zip(read(layer), expected, W, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)
        np.testing.assert_allclose(found, asked, rtol=1e-12, atol=1e-12)
        assert np.array_equal(found[:-1] == 0, asked[:-1] == 0)  # zeros are exact
    np.testing.assert_allclose(responses(layer, inputs, W), outputs(layer, inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_becomes_of_weights_in_the_model_is_known_before_they_are_written(dtype):
    norm = randomized(nn.BatchNorm2d(6))
    layer = plain(nn.Conv2d(4, 6, 3).to(dtype), norm.to(dtype))
    W = [np.random.default_rng(0).standard_normal(w.shape) for w in read(layer)]
    expected = layer.storage.stored(W)
    write(layer, W)
    np.testing.assert_allclose(read(layer)[0], expected[0], rtol=0, atol=1e-12)  # rounding of float64, not of dtype


def test_a_channel_that_its_normalization_turns_off_needs_no_weights():
    model = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), randomized(nn.BatchNorm2d(5)), nn.ReLU())
    with torch.no_grad():
        model[1].weight[2] = 0.0
        model[1].bias[2] = 1.5
    x = torch.randn(20, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    result = trim(model, x, 0.1, penalize_bias=False)
    assert result.solved
    assert not bool(result.model[0].weight[2].any())
    error = torch.linalg.norm(forward(result.model, x) - forward(model, x)) / torch.linalg.norm(forward(model, x))
    assert error <= 0.1 * (1 + 2e-3)


@pytest.mark.parametrize("unfold", [True, False])
def test_a_trim_takes_normalizations_apart_again_or_leaves_them_folded(unfold, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 5, 3), randomized(nn.BatchNorm2d(5)), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(80, 6, bias=False), randomized(nn.BatchNorm1d(6)), nn.ReLU(), nn.Linear(6, 3)),
    ).eval()
    x = torch.randn(60, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    result = trim(model, x, 0.05, unfold=unfold)
    assert result.solved
    assert [row.kind for row in result.layers] == (
        ["Conv2d+BatchNorm2d", "Linear+BatchNorm1d", "Linear"] if unfold else ["Conv2d", "Linear", "Linear"]
    )
    assert isinstance(result.model[1], nn.BatchNorm2d if unfold else nn.Identity)
    assert (list(result.model.state_dict()) == list(model.state_dict())) is unfold
    result.save(tmp_path)
    torch.testing.assert_close(load(tmp_path, model).model.eval()(x), result.model.eval()(x), rtol=0, atol=0)
    plain_error = float(torch.linalg.norm(forward(result.model, x) - forward(model, x)))
    assert result.output_error == pytest.approx(plain_error, rel=1e-4)
    assert plain_error / float(torch.linalg.norm(forward(model, x))) < 0.3


@pytest.mark.parametrize("unfold", [True, False])
def test_the_mode_of_every_module_is_kept(unfold):
    model = nn.Sequential(nn.Conv2d(2, 5, 3), randomized(nn.BatchNorm2d(5)), nn.ReLU(), nn.Dropout(0.5)).train()
    model[2].eval()
    result = trim(model, torch.randn(20, 2, 6, 6, generator=torch.Generator().manual_seed(0)), 0.1, unfold=unfold)
    assert [module.training for module in (result.model, result.model[2], result.model[3])] == [True, False, True]


def test_a_normalization_of_tokens_is_not_taken_for_one_of_neurons():
    model = nn.Sequential(nn.Linear(4, 5), randomized(nn.BatchNorm1d(5)), nn.ReLU(), nn.Linear(5, 2)).eval()
    x = torch.randn(30, 5, 4, generator=torch.Generator().manual_seed(0))  # as many tokens as neurons
    first = trim(model, x, 0.1).layers[0]
    assert (first.status, first.note) == ("DENSE", "kept dense: is followed by a batch normalization of tokens")
    with pytest.raises(ModelError, match="unfold=False cannot fold '1', a batch normalization of tokens, into '0'"):
        trim(model, x, 0.1, unfold=False)


def test_folding_changes_no_output():
    model = nn.Sequential(nn.Conv2d(2, 5, 3), randomized(nn.BatchNorm2d(5)), nn.ReLU()).double().eval()
    x = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    folded = batchnorm.fold(model, trace(model).folds)
    assert isinstance(folded[1], nn.Identity)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=1e-13)


# --- attention


def attention(batch_first=True, **options):
    torch.manual_seed(3)
    block = nn.MultiheadAttention(8, 2, batch_first=batch_first, dtype=torch.float64, **options)
    if block.in_proj_bias is not None:
        nn.init.normal_(block.in_proj_bias)
        nn.init.normal_(block.out_proj.bias)
    return block.eval()


class Across(nn.Module):
    """Attention whose query, key and value are three, of their own widths."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.block = attention(batch_first, kdim=6, vdim=4)

    def forward(self, x):
        return self.block(x, key=x[:, :3, :6], value=x[:, :3, 4:])[0]


class Itself(nn.Module):
    """Self-attention."""

    def __init__(self, **options):
        super().__init__()
        self.block = attention(**options)

    def forward(self, x):
        return self.block(x, x, x, need_weights=False)[0]


@pytest.mark.parametrize("model", [Itself(), Itself(batch_first=False), Itself(bias=False), Across()])
def test_projections_of_an_attention_are_linear_layers(model):
    x = torch.randn(5, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    uses = [use for use in trace(model).layers if use.activation]
    assert [use.part for use in uses] == ["q", "k", "v", "out"]
    tokens = {"q": 20, "k": 15, "v": 15, "out": 20} if isinstance(model, Across) else dict.fromkeys("qkv", 20) | {"out": 20}
    X = record(model, {use.part: Draw(find(model, use), torch.arange(tokens[use.part])) for use in uses}, x)
    # The output projection of what was recorded is the output.
    out = next(find(model, use) for use in uses if use.part == "out")
    with torch.no_grad():
        expected = model(x).reshape(-1, 8).T.numpy()
    np.testing.assert_allclose(read(out)[0].T @ X["out"], expected, rtol=0, atol=1e-12)
    assert np.array_equal(X["q"][:8], x.reshape(-1, 8).T.numpy())
    # A projection that is written is a projection that is used: with the values at 0, nothing but the bias comes out.
    changed = copy.deepcopy(model)
    value = next(find(changed, use) for use in uses if use.part == "v")
    write(value, [np.zeros_like(w) for w in read(value)])
    bias = changed.block.out_proj.bias
    with torch.no_grad():
        torch.testing.assert_close(changed(x), torch.zeros_like(x) if bias is None else bias.expand(5, 4, 8))


def test_a_transformer_is_trimmed_whole_though_torch_would_compute_it_in_one_piece():
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(32, 3)).eval()
    x = torch.randn(40, 4, 8, generator=torch.Generator().manual_seed(0))
    fast = torch.backends.mha.get_fastpath_enabled()
    result = trim(model, x, 0.1, holdout=x[:10])
    assert torch.backends.mha.get_fastpath_enabled() is fast
    assert result.solved
    kinds = {row.name: (row.activation, row.samples, row.status) for row in result.layers}
    assert kinds["0.layers.1.linear1"] == ("relu", 160, "SOLVED")
    assert kinds["0.layers.1.self_attn.k"] == ("linear", 160, "SOLVED")
    assert kinds["0.layers.1.norm1"] == (None, 0, "DENSE")
    assert kinds["2"] == ("linear", 40, "SOLVED")
    assert result.bound is None
    assert 0 < result.holdout_error < 1
    in_proj = result.model[0].layers[0].self_attn.in_proj_weight
    kept = [row.weights_kept for row in result.layers if row.name[:21] == "0.layers.0.self_attn." and row.name[-3:] != "out"]
    assert sum(kept) == int((in_proj != 0).sum()) < in_proj.numel()


@pytest.mark.parametrize("groups", [1, 4])
def test_a_neuron_that_is_never_on_behind_a_normalization_becomes_exactly_zero(groups):
    model = nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups, bias=False), randomized(nn.BatchNorm2d(8)), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].bias[[1, 4]] = -100.0
        model[1].running_mean.add_(0.3)  # whose rounding would be left of a bias that is to be 0
    x = torch.rand(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    result = trim(model, x, 0.1)
    assert result.solved, str(result)
    W = np.hstack(read(plain(result.model[0], result.model[1])))
    assert not W[:, [1, 4]].any()
    assert not forward(result.model, x)[:, [1, 4]].any()
