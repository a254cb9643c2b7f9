"""The public door: what a trim promises, for every kind of network, dtype and calibration, and what it refuses."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from nettrim import ModelError, ProblemError, SolverError, schemes, trim
from nettrim.layers import plain, read
from tests.networks import Branching, Functional, Odd, OneReLU, Residual, Tied, samples, small


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_every_layer_is_certified_and_stays_within_epsilon_of_its_responses():
    model, x = small(), samples()
    result = trim(model, x, 0.2)
    assert result.solved
    assert [row.name for row in result.layers] == ["1", "4", "6"]
    reached = {}
    for row in result.layers:
        model.get_submodule(row.name).register_forward_hook(
            lambda _, args, __, name=row.name: reached.update({name: args[0].detach().double()})
        )
    with torch.no_grad():
        model.eval()(x)
    for row in result.layers:
        inputs = reached[row.name]
        before, after = (m.get_submodule(row.name).double() for m in (copy.deepcopy(model), copy.deepcopy(result.model)))
        before._forward_hooks.clear()
        rule = torch.relu if row.activation == "relu" else (lambda z: z)
        with torch.no_grad():
            y, y_hat = rule(before(inputs)), rule(after(inputs))
        achieved = float((y_hat - y).norm() / y.norm())
        assert row.achieved == pytest.approx(achieved, rel=1e-4)  # the certificate's Y is rounded to float32
        # Ball and ceiling may each be violated by tol * epsilon, so the error by no more than both together.
        assert achieved <= 0.2 * (1 + 2 * 1e-3)
        assert abs(row.gap) <= 1e-3
        assert row.violation <= 1e-3
        assert row.weights_kept == int((result.model.get_submodule(row.name).weight != 0).sum())
        assert row.weights_kept < row.weights


def test_the_proved_bound_holds_and_is_there_for_chains_only():
    result = trim(small(), samples(), 0.1)
    assert 0 < result.output_error <= result.bound
    assert trim(Residual(), samples(), 0.1).bound is None


@pytest.mark.parametrize("model", [Functional(), OneReLU(), Residual()])
def test_networks_in_every_spelling_are_trimmed_whole(model):
    result = trim(model.eval(), samples(), 0.3)
    assert result.solved
    assert result.kept < 1
    assert all(row.status == "SOLVED" for row in result.layers)


def test_the_model_is_unchanged_and_so_is_the_calibration():
    model, x = small().train(), samples()
    before, modes, kept = state(model), [m.training for m in model.modules()], x.clone()
    result = trim(model, x, 0.3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes == [m.training for m in result.model.modules()]
    assert torch.equal(x, kept)
    assert all(not m._forward_pre_hooks and not m._forward_hooks for m in model.modules())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in result.model.parameters()}


def test_the_same_call_gives_the_same_bytes_and_leaves_the_global_generators_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (trim(small(), samples(200), 0.2, n_samples=50, seed=3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


def test_the_result_is_an_ordinary_model():
    result = trim(small(), samples(), 0.2)
    assert list(result.model.state_dict()) == list(small().state_dict())
    assert all(parameter.is_contiguous() and parameter.is_leaf for parameter in result.model.parameters())
    twin = copy.deepcopy(result.model)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), result.model.parameters(), strict=True))


@pytest.mark.parametrize("form", ["array", "float64", "batches", "one sample"])
def test_calibration_in_every_form(form):
    x = samples()
    given = {"array": x.numpy(), "float64": x.double(), "batches": [(b, None) for b in x.split(9)], "one sample": x[:1]}[
        form
    ]
    assert trim(small(), given, 0.2).solved


def test_float64_models_stay_float64():
    result = trim(small().double(), samples(), 0.1, tol=1e-5)
    assert result.solved
    assert all(parameter.dtype == torch.float64 for parameter in result.model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_are_judged_after_the_cast(dtype):
    result = trim(small().to(dtype), samples(), 0.3, tol=2e-2)  # bfloat16 rounds weights by up to 2^-9
    assert all(parameter.dtype == dtype for parameter in result.model.parameters())
    for row in result.layers:
        assert row.status == "SOLVED" or "kept dense" in row.note
    strict = trim(small().to(torch.bfloat16), samples(), 0.3, tol=1e-6)
    assert not strict.solved  # rounding alone breaks a tolerance of 1e-6, and the report must say so


def test_a_layer_that_misses_its_certificate_is_kept_dense_and_named():
    model = small()
    result = trim(model, samples(), 0.1, max_iter=1)
    assert not result.solved
    missed = [row for row in result.layers if row.status == "UNMET"]
    assert missed
    for row in missed:
        assert torch.equal(result.model.get_submodule(row.name).weight, model.get_submodule(row.name).weight)
        assert "kept dense" in row.note
        assert row.error == 0


def test_layers_that_are_not_supported_stay_dense_and_are_named():
    model = nn.Sequential(nn.ConvTranspose1d(3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(15, 5), nn.ReLU(), nn.Linear(5, 2))
    result = trim(model, samples(), 0.2)
    assert result.layers[0].status == "DENSE"
    assert "ConvTranspose1d is not supported" in result.layers[0].note
    assert torch.equal(result.model[0].weight, model[0].weight)
    assert result.bound is None
    assert all(row.status == "SOLVED" for row in result.layers[1:])
    with pytest.raises(ModelError, match=r"strict=True: '0' \(ConvTranspose1d is not supported\)"):
        trim(model, samples(), 0.2, strict=True)
    odd = {row.name: row for row in trim(Odd(), samples().flatten(1), 0.2).layers}
    assert odd["twice"].status == odd["never"].status == "DENSE"
    assert "treated as linear" in odd["gate"].note
    assert odd["gate"].status == "SOLVED"
    tied = trim(Tied(), samples().flatten(1), 0.2)
    assert tied.model.a.weight is tied.model.b.weight


def test_a_model_that_does_not_trace_is_trimmed_as_linear_or_as_told():
    (row,) = trim(Branching(), samples().flatten(1), 0.2).layers
    assert (row.activation, row.status) == ("linear", "SOLVED")
    assert "cannot be traced" in row.note
    (told,) = trim(Branching(), samples().flatten(1), 0.2, activations={"a": "relu"}).layers
    assert (told.activation, told.status) == ("relu", "SOLVED")


def test_layers_without_bias_and_free_biases():
    bare = nn.Sequential(nn.Linear(12, 9, bias=False), nn.ReLU(), nn.Linear(9, 4, bias=False))
    assert trim(bare, samples().flatten(1), 0.2).solved
    free = trim(small(), samples(), 0.3, penalize_bias=False)
    assert free.solved
    assert sum(row.biases_kept for row in free.layers) >= sum(
        row.biases_kept for row in trim(small(), samples(), 0.3).layers
    )


def test_an_input_that_is_always_zero_loses_all_its_weights():
    x = samples()
    x[:, 1, 2] = 0
    result = trim(small(), x, 0.1)
    assert bool((result.model[1].weight[:, 6] == 0).all())


def test_an_all_zero_layer_and_a_layer_that_never_fires():
    model = small()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.fill_(-1.0)
    result = trim(model, samples(), 0.1)
    assert result.solved
    assert not bool(result.model[4].weight.any())
    assert not bool(result.model[4].bias.any())  # responses are 0 with and without it


def test_the_larger_epsilon_keeps_less_and_a_huge_one_keeps_nothing():
    mass = [
        sum(float(np.abs(read(plain(m))[0]).sum()) for m in trim(small(), samples(), e).model if isinstance(m, nn.Linear))
        for e in (0.05, 0.2, 0.5, 1.0)
    ]
    assert mass == sorted(mass, reverse=True)
    assert mass[-1] == 0


@pytest.mark.parametrize("backend", ["cvxpy", "reference"])
def test_backends_agree_on_the_objective(backend):
    ours, theirs = (trim(small(), samples(), 0.2, backend=b, tol=1e-3) for b in ("admm", backend))
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        masses = [float(np.abs(read(plain(r.model.get_submodule(a.name)))[0]).sum()) for r in (ours, theirs)]
        # Each is within the tolerance of the optimum by its gap, and its violations buy no more than a few times that.
        assert masses[0] == pytest.approx(masses[1], rel=5e-3)
        assert a.status == b.status == "SOLVED"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"epsilon": -0.1}, ProblemError, "epsilon must be"),
        ({"epsilon": float("nan")}, ProblemError, "epsilon must be"),
        ({"epsilon": {"1": 0.1, "*": -1.0}}, ProblemError, "epsilon must be"),
        ({"epsilon": {"1": 0.1}}, ModelError, "epsilon says nothing of 4, 6; add '\\*' for all others, or ignore them"),
        ({"epsilon": {"re:conv": 0.1}}, ModelError, r"'re:conv' names no layer; there are 1 \(Linear\), 4"),
        ({"sparsity": 1.5}, ProblemError, "sparsity, the fraction removed, must be from 0 to 1; got 1.5"),
        ({"sparsity": float("nan")}, ProblemError, "sparsity"),
        ({"budget": 0}, ProblemError, "budget must be positive; got 0"),
        ({"budget": "many"}, ProblemError, "budget must be a number of weights, a fraction, or bytes such as '150 kB'"),
        ({"budget": 0.5, "sparsity": 0.5}, ProblemError, "budget and sparsity cannot both be asked"),
        ({"budget": "8 B"}, ProblemError, "budget of 8 bytes is less than the 92 of the row pointers alone"),
        ({"scheme": "sideways"}, ProblemError, "scheme must be 'parallel' or 'cascade'; got 'sideways'"),
        ({"gamma": 0.9}, ProblemError, "gamma, the inflation rate, must be None, or 1 or more; got 0.9"),
        ({"gamma": float("inf")}, ProblemError, "gamma, the inflation rate, must be None, or 1 or more; got inf"),
        ({"kappa": 0.9}, ProblemError, "kappa is of the cascade as published; give gamma too, 1.1 say; got None"),
        ({"kappa": 0.0}, ProblemError, "kappa, the risk coefficient, must be over 0 and at most 1; got 0"),
        ({"rounds": 1.5}, ProblemError, "rounds must be a whole number, 0 or more; got 1.5"),
        ({"targets": ["Conv2d"]}, ModelError, "'Conv2d' names no layer"),
        ({"targets": ["re:("]}, ModelError, "is not a regular expression"),
        ({"ignore": ["Linear"]}, ModelError, "no layer to trim; its layers are '1' .is left out by targets or ignore"),
        ({"holdout": (torch.zeros(4, 3, 4), torch.zeros(3, dtype=torch.long))}, ModelError, "holdout takes class numbers"),
        ({"holdout": torch.zeros(0, 3, 4)}, ModelError, "no samples"),
        ({"backend": "simplex"}, SolverError, "no backend is called 'simplex'; there are admm"),
        ({"tol": 0.0}, ProblemError, "tol must be"),
        ({"max_iter": 0}, ProblemError, "max_iter must be"),
        ({"n_samples": 0}, ModelError, "n_samples"),
        ({"calibration": torch.zeros(4, 5)}, ModelError, "do not fit the model"),
        ({"calibration": torch.zeros(4, 3, 4, dtype=torch.int64)}, ModelError, "do not fit the model"),
        ({"calibration": np.array([["a"]])}, ModelError, "calibration must hold numbers"),
        ({"calibration": torch.zeros(0, 3, 4)}, ModelError, "no samples"),
        ({"model": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3, device="meta"))}, ModelError, "lies on cpu and meta"),
        ({"calibration": torch.full((4, 3, 4), float("inf"))}, ModelError, "NaN or Inf"),
        ({"model": nn.Sequential(nn.Flatten(), nn.ReLU())}, ModelError, "no layer to trim"),
        ({"model": nn.Sequential(nn.ConvTranspose1d(3, 3, 2))}, ModelError, "no layer to trim.*ConvTranspose1d"),
        ({"model": Tied(), "strict": True}, ModelError, "under strict=True: 'a' .shares its weight with b"),
    ],
)
def test_bad_requests_are_refused_before_any_work(change, error, message, monkeypatch):
    monkeypatch.setattr(schemes, "retrain", lambda *a, **k: pytest.fail("work had begun"))
    request = {"model": small(), "calibration": samples(), "epsilon": 0.1} | change
    with pytest.raises(error, match=message):
        trim(request.pop("model"), request.pop("calibration"), request.pop("epsilon"), **request)


def test_nan_weights_are_named_by_layer_and_array():
    model = small()
    with torch.no_grad():
        model[4].bias[2] = float("nan")
    with pytest.raises(ModelError, match="layer '4': bias holds NaN or Inf"):
        trim(model, samples(), 0.1)


def test_activations_that_overflow_are_named_by_layer():
    model = small()
    with torch.no_grad():
        model[1].weight.mul_(1e38)
    with pytest.raises(ModelError, match=r"layer '1': Y has .* NaN or Inf"):
        trim(model, samples() * 1e3, 0.1)
