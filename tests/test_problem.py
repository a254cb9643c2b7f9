"""LayerProblem: what it refuses and in which words, what it accepts and never copies, and what its constructors state."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from solvers import LayerProblem, NetTrimError, ProblemError, certify

N, M, P = 4, 3, 7
RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((N, P)), RNG.standard_normal((N, M))
Y = np.maximum(W.T @ X, 0)
X_HAT = X + 0.1 * RNG.standard_normal((N, P))


def spoiled(array, value):
    """Return a copy with one bad entry, at (1, 2) or, of a vector, at 2."""
    copy = np.array(array)
    copy[(1, 2)[-copy.ndim :]] = value
    return copy


REFUSED = {
    "samples in rows": (lambda: LayerProblem(X.T, Y.T, 0.1), r"X is \(7, 4\) and Y is \(7, 3\).*Samples in rows\? Pass"),
    "X a vector": (lambda: LayerProblem(X[0], Y, 0.1), r"X must be a matrix \(N, P\), inputs by samples"),
    "Y a vector": (lambda: LayerProblem(X, Y[0], 0.1), r"Y must be a matrix \(M, P\), neurons by samples"),
    "no samples": (lambda: LayerProblem(X[:, :0], Y[:, :0], 0.1), r"X must be .* none of them 0; got shape \(4, 0\)"),
    "no inputs": (lambda: LayerProblem(X[:0], Y, 0.1), r"X must be .* none of them 0; got shape \(0, 7\)"),
    "no neurons": (lambda: LayerProblem(X, Y[:0], 0.1), r"Y must be .* none of them 0; got shape \(0, 7\)"),
    "no samples, parallel": (lambda: LayerProblem.parallel(X[:, :0], W, 0.1), "no axis of length 0"),
    "no inputs, linear": (lambda: LayerProblem.linear(X[:0], W[:0], 0.1), "no axis of length 0"),
    "samples in rows, parallel": (lambda: LayerProblem.parallel(X.T, W, 0.1), r"X must be \(N, P\) and W \(N, M\)"),
    "samples in rows, cascade": (lambda: LayerProblem.cascade(X_HAT.T, X, W, 1.0), r"X_hat must be \(N, P\) and W"),
    "other samples, cascade": (lambda: LayerProblem.cascade(X_HAT[:, 1:], X, W, 1.0), "same samples must go through both"),
    "samples in columns, from_activations": (
        lambda: LayerProblem.from_activations(X, W.T),
        r"inputs must be \(n_samples, n_in\) and weight \(n_out, n_in\).*got \(4, 7\) and \(3, 4\)",
    ),
    "no samples, from_activations": (lambda: LayerProblem.from_activations(X.T[:0], W.T), "at least one sample"),
    "bias as a column": (lambda: LayerProblem.from_activations(X.T, W.T, np.ones((M, 1))), r"bias must be \(3,\)"),
    "bias of the inputs": (lambda: LayerProblem.from_activations(X.T, W.T, np.ones(N)), r"bias must be \(3,\).*got \(4,\)"),
    "epsilon negative": (lambda: LayerProblem(X, Y, -0.1), "epsilon must be a finite number, 0 or more; got -0.1"),
    "epsilon NaN": (lambda: LayerProblem(X, Y, np.nan), "epsilon must be .*; got nan"),
    "epsilon Inf": (lambda: LayerProblem(X, Y, np.inf), "epsilon must be .*; got inf"),
    "epsilon negative, relative": (lambda: LayerProblem.parallel(X, W, -0.1), "epsilon must be .*; got -"),
    "epsilon NaN, relative": (lambda: LayerProblem.linear(X, W, np.nan), "epsilon must be .*; got nan"),
    "gamma below 1": (lambda: LayerProblem.cascade(X_HAT, X, W, 0.99), "gamma, the inflation rate, .* 1 or more; got 0.99"),
    "gamma NaN": (lambda: LayerProblem.cascade(X_HAT, X, W, np.nan), "gamma, .*; got nan"),
    "gamma Inf": (lambda: LayerProblem.cascade(X_HAT, X, W, np.inf), "gamma, .*; got inf"),
    "penalty negative": (lambda: LayerProblem(X, Y, 0.1, penalty=-1.0), "penalty must be 0 or more, inf allowed; got -1"),
    "penalty NaN": (lambda: LayerProblem(X, Y, 0.1, penalty=spoiled(np.ones((N, M)), np.nan)), "penalty must .* got nan"),
    "penalty of rows as a vector": (
        lambda: LayerProblem(X, Y, 0.1, penalty=np.ones(N)),
        r"penalty must be a number, \(4, 1\) or \(4, 3\); got shape \(4,\)",
    ),
    "penalty transposed": (lambda: LayerProblem(X, Y, 0.1, penalty=np.ones((M, N))), r"got shape \(3, 4\)"),
    "penalty of columns": (lambda: LayerProblem(X, Y, 0.1, penalty=np.ones((1, M))), r"got shape \(1, 3\)"),
    "penalty complex": (lambda: LayerProblem(X, Y, 0.1, penalty=np.ones((N, M), complex)), "penalty must"),
    "penalty a word": (lambda: LayerProblem(X, Y, 0.1, penalty="high"), "penalty must"),
    "active transposed": (lambda: LayerProblem(X, Y, 0.1, active=(Y > 0).T), r"active must be bool of Y's shape \(3, 7\)"),
    "active as numbers": (lambda: LayerProblem(X, Y, 0.1, active=Y), "active must be bool .* got float64"),
    "active of a linear layer": (
        lambda: LayerProblem(X, Y, 0.1, active=Y > 0, activation="linear"),
        "a linear layer is active everywhere",
    ),
    "V transposed": (lambda: LayerProblem(X, Y, 0.1, V=Y.T), r"V must be a number or of Y's shape \(3, 7\)"),
    "V a row": (lambda: LayerProblem(X, Y, 0.1, V=Y[0]), r"V must be a number or of Y's shape"),
    "negative responses": (
        lambda: LayerProblem(X, W.T @ X, 0.1),
        "those of a ReLU layer are not negative.*LayerProblem.linear",
    ),
    "activation unknown": (lambda: LayerProblem(X, Y, 0.1, activation="tanh"), "activation must be 'relu' or 'linear'"),
    "activation unknown, torch": (
        lambda: LayerProblem.from_activations(X.T, W.T, activation="gelu"),
        "activation must be 'relu' or 'linear'; got 'gelu'",
    ),
    "complex": (lambda: LayerProblem(X.astype(complex), Y, 0.1), "X must hold real numbers .* got complex128"),
    "complex tensor": (lambda: LayerProblem(torch.ones(N, P) * 1j, Y, 0.1), "X must hold real numbers .* got complex64"),
    "strings": (lambda: LayerProblem(X, Y.astype(str), 0.1), "Y must hold real numbers .* got <U"),
    "objects": (lambda: LayerProblem(None, Y, 0.1), "X must hold real numbers .* got object"),
    "mask transposed": (lambda: LayerProblem(X, Y, 0.1).restricted((W != 0).T), r"mask must be bool of shape \(4, 3\)"),
    "mask as numbers": (lambda: LayerProblem(X, Y, 0.1).restricted(W), "mask must be bool .* got float64"),
    "mask of a row": (lambda: LayerProblem(X, Y, 0.1).restricted(np.ones(M, bool)), r"of shape \(3,\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    make, message = REFUSED[case]
    with pytest.raises(ProblemError, match=message) as caught:
        make()
    assert isinstance(caught.value, NetTrimError) and isinstance(caught.value, ValueError)


NAMED = {
    "X": lambda bad: LayerProblem(bad(X), Y, 0.1),
    "Y": lambda bad: LayerProblem(X, bad(Y), 0.1),
    "V": lambda bad: LayerProblem(X, Y, 0.1, V=bad(Y)),
    "X of parallel": lambda bad: LayerProblem.parallel(bad(X), W, 0.1),
    "W of parallel": lambda bad: LayerProblem.parallel(X, bad(W), 0.1),
    "X_hat of cascade": lambda bad: LayerProblem.cascade(bad(X_HAT), X, W, 1.0),
    "X of cascade": lambda bad: LayerProblem.cascade(X_HAT, bad(X), W, 1.0),
    "inputs of from_activations": lambda bad: LayerProblem.from_activations(bad(X.T), W.T),
    "weight of from_activations": lambda bad: LayerProblem.from_activations(X.T, bad(W.T)),
    "bias of from_activations": lambda bad: LayerProblem.from_activations(X.T, W.T, bad(np.ones(M))),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", NAMED)
def test_numbers_that_are_missing_are_named(case, value):
    place = r"\(2,\)" if case.startswith("bias") else r"\(1, 2\)"
    with pytest.raises(ProblemError, match=rf"^{case.split()[0]} has 1 entries .* NaN or Inf, the first at {place}"):
        NAMED[case](lambda array: spoiled(array, value))


def test_large_numbers_are_not_missing():
    # The sum of these overflows in float32, the numbers themselves do not.
    huge = np.full((N, P), 3e38, np.float32)
    assert LayerProblem(huge, Y, 0.1).X.max() == np.float32(3e38)


def test_negative_epsilon_is_refused_without_responses():
    # ||Y|| is 0 here, and a negative fraction of 0 is -0.0, which is not below 0.
    with pytest.raises(ProblemError, match="epsilon must be a finite number, 0 or more"):
        LayerProblem.parallel(np.abs(X), -np.abs(W), -0.1)


ACCEPTED = {
    "float32": (lambda a: a.astype(np.float32), np.float32),
    "float64": (lambda a: a, np.float64),
    "nested lists": (lambda a: a.tolist(), np.float64),
    "float16": (lambda a: a.astype(np.float16), np.float32),
    "integers": (lambda a: np.rint(10 * a).astype(np.int8), np.float64),
    "bools": (lambda a: a > 0, np.float64),
    "float32 tensor": (lambda a: torch.tensor(a, dtype=torch.float32), np.float32),
    "float64 tensor": (lambda a: torch.tensor(a), np.float64),
    "float16 tensor": (lambda a: torch.tensor(a, dtype=torch.float16), np.float32),
    "bfloat16 tensor": (lambda a: torch.tensor(a, dtype=torch.bfloat16), np.float32),
    "integer tensor": (lambda a: torch.tensor(np.rint(10 * a), dtype=torch.int32), np.float64),
    "tensor with gradient": (lambda a: torch.tensor(a, dtype=torch.float32, requires_grad=True), np.float32),
    "bfloat16 parameter": (lambda a: torch.nn.Parameter(torch.tensor(a, dtype=torch.bfloat16)), np.float32),
    "not contiguous": (lambda a: np.repeat(np.repeat(a, 2, axis=0), 2, axis=1)[::2, ::2], np.float64),
    "Fortran order": (np.asfortranarray, np.float64),
    "tensor not contiguous": (lambda a: torch.tensor(a.T.copy()).T, np.float64),
}


def values(array):
    """Return the numbers of any input in float64, by another way than the package takes."""
    return array.detach().double().numpy() if isinstance(array, torch.Tensor) else np.array(array, dtype=np.float64)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts(case):
    convert, dtype = ACCEPTED[case]
    inputs, responses = convert(X), convert(Y)
    problem = LayerProblem(inputs, responses, 0.1)
    assert problem.X.dtype == problem.Y.dtype == dtype
    np.testing.assert_array_equal(problem.X, values(inputs))  # half precision and integers fit without rounding
    np.testing.assert_array_equal(problem.Y, values(responses))
    assert (problem.N, problem.M, problem.P) == (N, M, P)


def test_mixed_precision_states_a_layer_in_the_wider():
    problem = LayerProblem.parallel(torch.tensor(X, dtype=torch.float32), W, 0.1)
    assert problem.X.dtype == np.float32 and problem.Y.dtype == np.float64


def test_no_copy_of_floats(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    frozen = X.copy()
    frozen.flags.writeable = False
    single, tensor = X.astype(np.float32), torch.tensor(X, requires_grad=True)
    for given_, same in ((X, X), (single, single), (frozen, frozen), (mapped, mapped), (X[:, ::-1], X)):
        assert np.shares_memory(LayerProblem(given_, Y, 0.1).X, same)
    assert np.shares_memory(LayerProblem(tensor, Y, 0.1).X, tensor.detach().numpy())
    assert np.shares_memory(LayerProblem.parallel(X, W, 0.1).X, X)
    assert np.shares_memory(LayerProblem.cascade(X_HAT, X, W, 1.0).X, X_HAT)
    assert np.shares_memory(LayerProblem.from_activations(X.T, W.T).X, X)
    responses, ceiling, active, penalty = Y.copy(), Y.copy(), Y > 0, np.ones((N, M))
    problem = LayerProblem(X, responses, 0.1, V=ceiling, active=active, penalty=penalty)
    for kept, mine in ((problem.Y, responses), (problem.V, ceiling), (problem.active, active), (problem.penalty, penalty)):
        assert np.shares_memory(kept, mine)


def test_scalar_ceiling_takes_no_memory():
    problem = LayerProblem.linear(X, W, 0.1)
    assert problem.V.strides == (0, 0) and problem.active.strides == (0, 0)


def test_read_only_inside_and_untouched_outside():
    arrays = {"X": X.copy(), "Y": Y.copy(), "V": Y.copy(), "active": Y > 0, "penalty": np.ones((N, M))}
    before = {name: array.tobytes() for name, array in arrays.items()}
    problem = LayerProblem(epsilon=0.1, **arrays)
    for name, array in arrays.items():
        with pytest.raises(ValueError, match="read-only"):
            getattr(problem, name)[0, 0] = 1
        assert array.flags.writeable and array.tobytes() == before[name]


@pytest.mark.parametrize("make", [LayerProblem.parallel, LayerProblem.linear])
def test_constructors_leave_their_arguments_alone(make):
    inputs, weights = X.copy(), W.copy()
    make(inputs, weights, 0.1)
    assert inputs.tobytes() == X.tobytes() and weights.tobytes() == W.tobytes()
    assert inputs.flags.writeable and weights.flags.writeable


def test_cascade_leaves_its_arguments_alone():
    inputs, original, weights = X_HAT.copy(), X.copy(), W.copy()
    LayerProblem.cascade(inputs, original, weights, 1.1)
    assert (inputs.tobytes(), original.tobytes(), weights.tobytes()) == (X_HAT.tobytes(), X.tobytes(), W.tobytes())


def test_frozen():
    problem = LayerProblem.parallel(X, W, 0.1)
    for name, value in (("X", X), ("epsilon", 0.2), ("anything", 1)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(problem, name, value)


def test_parallel_states_the_paper():
    problem = LayerProblem.parallel(X, W, 0.1)
    np.testing.assert_array_equal(problem.Y, np.maximum(W.T @ X, 0))
    np.testing.assert_array_equal(problem.active, W.T @ X > 0)
    np.testing.assert_array_equal(problem.V, np.zeros((M, P)))
    assert problem.epsilon == pytest.approx(0.1 * np.linalg.norm(Y), rel=1e-14)  # another order of the same sum
    assert problem.penalty == 1 and problem.activation == "relu"


def test_linear_states_the_paper():
    problem = LayerProblem.linear(X, W, 0.1)
    np.testing.assert_array_equal(problem.Y, W.T @ X)
    assert problem.active.all() and problem.active.shape == (M, P) and problem.activation == "linear"
    assert problem.epsilon == pytest.approx(0.1 * np.linalg.norm(W.T @ X), rel=1e-14)  # another order of the same sum


def test_cascade_states_the_paper():
    problem = LayerProblem.cascade(X_HAT, X, W, 1.1)
    active = W.T @ X > 0
    np.testing.assert_array_equal(problem.X, X_HAT)
    np.testing.assert_array_equal(problem.Y, np.maximum(W.T @ X, 0))
    np.testing.assert_array_equal(problem.active, active)
    np.testing.assert_array_equal(problem.V, W.T @ X_HAT)
    squared = 1.1 * np.sum((W.T @ X_HAT - Y)[active] ** 2)  # (S.22)
    assert problem.epsilon**2 == pytest.approx(squared, rel=1e-14)  # another order of the same sum


def test_absolute_epsilon():
    assert LayerProblem.parallel(X, W, 0.3, relative=False).epsilon == 0.3
    assert LayerProblem.linear(X, W, 0.3, relative=False).epsilon == 0.3
    assert LayerProblem.from_activations(X.T, W.T, epsilon=0.3, relative=False).epsilon == 0.3


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("penalize_bias", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_from_activations_is_the_paper_transposed(activation, penalize_bias, biased):
    inputs = torch.tensor(X.T.copy())
    layer = torch.nn.Linear(N, M, bias=biased, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(W.T.copy()))
    problem = LayerProblem.from_activations(
        inputs, layer.weight, layer.bias, 0.2, activation=activation, penalize_bias=penalize_bias
    )
    bias = [layer.bias.detach().numpy()] if biased else []
    make = LayerProblem.linear if activation == "linear" else LayerProblem.parallel
    expected = make(np.vstack([X] + [np.ones(P)] * biased), np.vstack([W, *bias]), 0.2)
    assert (N + biased, M, P) == (problem.N, problem.M, problem.P)
    for name in ("X", "Y", "V", "active", "epsilon", "activation"):
        np.testing.assert_array_equal(getattr(problem, name), getattr(expected, name))
    prices = np.ones((N + biased, 1))
    if biased and not penalize_bias:
        prices[-1] = 0
    np.testing.assert_array_equal(np.broadcast_to(problem.penalty, prices.shape), prices)
    with torch.no_grad():
        response = torch.relu(layer(inputs)) if activation == "relu" else layer(inputs)
    np.testing.assert_allclose(problem.Y, response.numpy().T, rtol=0, atol=1e-14)  # a sum of 5 products, another order


@pytest.mark.parametrize("gamma", [1.0, 1.1])
@given(seed=st.integers(0, 1000), single=st.booleans(), noise=st.sampled_from([1e-3, 0.1, 10.0]))
def test_cascade_keeps_the_trained_weights_feasible(random_layer, gamma, seed, single, noise):
    dtype = np.float32 if single else np.float64
    original, weights = random_layer(seed, 6, 4, 11, dtype)
    trimmed = original + dtype(noise) * random_layer(seed + 1, 6, 4, 11, dtype)[0]
    problem = LayerProblem.cascade(trimmed, original, weights, gamma)
    # Y and V are sums of 6 products rounded to dtype: 6 ulps of the sums of absolute values bound what is lost.
    sizes = np.abs(weights).T @ (np.abs(original) + np.abs(trimmed))
    rounding = float(6 * np.finfo(dtype).eps * np.linalg.norm(sizes))
    certificate = certify(problem, weights)
    assert certificate.ball_violation <= rounding and certificate.ceiling_violation <= rounding
    assert certificate.ball == pytest.approx(problem.epsilon / np.sqrt(gamma), abs=rounding)


@given(seed=st.integers(0, 1000), shape=st.tuples(*[st.integers(1, 9)] * 3))
def test_epsilon_max_is_where_zero_becomes_feasible(random_layer, seed, shape):
    inputs, weights = random_layer(seed, *shape)
    problem = LayerProblem.parallel(inputs, weights, 0.1)
    nothing = np.zeros((problem.N, problem.M))
    assert problem.epsilon_max == problem.norm == pytest.approx(np.linalg.norm(problem.Y), rel=1e-14)  # order of a sum
    assert certify(problem.replace(epsilon=problem.epsilon_max * (1 + 1e-14)), nothing).violation == 0
    if problem.norm > 0:
        assert certify(problem.replace(epsilon=problem.epsilon_max * (1 - 1e-12)), nothing).ball_violation > 0


def test_epsilon_max_is_infinite_where_zero_breaks_a_ceiling():
    problem = LayerProblem(X, Y, 0.1, V=np.where(Y > 0, -1.0, 0.0))
    assert problem.epsilon_max == problem.norm  # a ceiling is read on the inactive pairs only
    broken = np.zeros((M, P))
    broken[np.unravel_index(np.argmin(Y), Y.shape)] = -1e-9
    assert problem.replace(V=broken).epsilon_max == np.inf


def test_relative_radius_of_one_is_epsilon_max(random_layer):
    # A fraction 1 of ||Y|| must be ||Y||, or U = 0 would be infeasible by a rounding error and a solver be run for nothing.
    for seed in range(20):
        for make in (LayerProblem.parallel, LayerProblem.linear):
            problem = make(*random_layer(seed, 12, 5, 30), 1.0)
            assert problem.epsilon >= problem.epsilon_max, f"{make.__name__}, seed {seed}"


def test_violation_unit():
    problem = LayerProblem.parallel(X, W, 0.1)
    assert problem.violation_unit == problem.epsilon
    assert problem.replace(epsilon=0.0).violation_unit == problem.norm


@pytest.mark.parametrize("penalty", [2.0, np.arange(N)[:, None], np.arange(N * M).reshape(N, M)], ids=["one", "rows", "all"])
def test_restricted_prices_inf_off_the_mask(penalty):
    problem = LayerProblem.parallel(X, W, 0.1, penalty=penalty)
    mask = W > 0
    restricted = problem.restricted(mask)
    np.testing.assert_array_equal(restricted.penalty[~mask], np.inf)
    np.testing.assert_array_equal(restricted.penalty[mask], np.broadcast_to(penalty, (N, M))[mask])
    np.testing.assert_array_equal(problem.penalty, penalty)
    assert restricted.X is not problem.X and np.shares_memory(restricted.X, problem.X)
    assert restricted.epsilon == problem.epsilon


def test_replace_validates_anew_and_keeps_omega():
    problem = LayerProblem.cascade(X_HAT, X, W, 1.1)
    other = problem.replace(epsilon=1.0)
    assert other.epsilon == 1.0 and problem.epsilon != 1.0
    np.testing.assert_array_equal(other.active, problem.active)
    with pytest.raises(ProblemError, match="epsilon must be"):
        problem.replace(epsilon=-1.0)
