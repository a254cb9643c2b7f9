"""The operator form of a convolution is the program on its patches: same products, same iterates, same certificate."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nettrim import ModelError, ProblemError, Status, certify, solve, solve_operator
from nettrim.convolve import ConvolutionOperator
from nettrim.layers import plain, write
from nettrim.lazy import LazyPatches
from nettrim.operator import _OnImages
from nettrim.operator_problem import operator_problem
from solvers.backends._tensors import Iteration
from tests.convolutions import made, stored

PROGRAMS = {
    "relu": (made(0), {}),
    "float32": (made(1, dtype=torch.float32), {}),
    "free bias": (made(2), {"penalize_bias": False}),
    "linear": (made(3), {"activation": "linear"}),
    "linear, free bias": (made(4), {"activation": "linear", "penalize_bias": False}),
    "no bias": (made(5, bias=False), {}),
    "one axis": (made(6, nn.Conv1d, (30, 3, 20), kernel=5, padding="same", padding_mode="circular"), {}),
    "strided": (made(7, stride=2, padding=(1, 2), dilation=(2, 1)), {}),
}
every_program = pytest.mark.parametrize("name", PROGRAMS)


@every_program
@pytest.mark.parametrize("inner", ["gram", "cg"])
def test_the_certificate_is_that_of_stored_patches_and_tells_the_status(consistent, name, inner):
    (layer, images), options = PROGRAMS[name]
    problem = operator_problem(layer, images, **options)
    whole = problem.replace(X=stored(layer, images).numpy())
    solution = solve_operator(layer, images, inner=inner, **options)
    assert solution.status is Status.SOLVED and solution.certificate.meets(1e-3)
    # Both judge the same numbers in the same blocks; 1e-9 leaves room for sums in another order.
    lazy, held = (vars(certify(p, solution.W, solution.dual)) for p in (problem, whole))
    assert lazy == pytest.approx(held, rel=1e-9, abs=1e-9 * held["objective"]) and vars(solution.certificate) == lazy
    assert consistent(solution.certificate, solve(whole, tol=1e-5).certificate)


@pytest.mark.parametrize("inner", ["gram", "cg"])
@pytest.mark.parametrize("name", ["relu", "linear", "free bias"])
def test_the_iterates_are_those_of_the_torch_backend(name, inner):
    (layer, images), options = PROGRAMS[name]
    whole = operator_problem(layer, images, **options).replace(X=stored(layer, images).numpy())
    few = {"tol": 1e-12, "max_iter": 60, "dtype": "float64"}
    expected = solve(whole, "torch", throw=False, **few)
    # So many steps of conjugate gradients solve the equations to rounding.
    found = solve_operator(layer, images, inner=inner, cg_iterations=300, **options, **few)
    assert found.status is Status.UNMET and found.iterations == 60 and len(found.checks) == len(expected.checks)
    # The same sums in other orders, 60 iterations long; the equations have a condition of at most 1 + N / 0.09 < 1e3.
    np.testing.assert_allclose(found.W, expected.W, rtol=0, atol=1e-9 * np.abs(expected.W).max())
    np.testing.assert_allclose(found.dual, expected.dual, rtol=0, atol=1e-9 * np.abs(expected.dual).max())


def test_conjugate_gradients_come_nearer_with_every_step():
    layer, images = made(8)
    # Rows of different sizes that share a direction: the descent without conjugate directions would be far behind.
    images = (images + 2) * torch.tensor([1.0, 0.5, 0.2, 0.1]).reshape(4, 1, 1)
    problem = operator_problem(layer, images)
    X = torch.from_numpy(problem.X[:, :])
    Y, on = torch.from_numpy(problem.Y.copy()), torch.from_numpy(problem.active.copy())
    residual = torch.from_numpy(np.random.default_rng(0).standard_normal((problem.N, problem.M)))
    distances = []
    for steps in range(1, problem.N + 10):
        at = _OnImages(ConvolutionOperator(layer, images), problem, Y, on, "cg", steps, 1.0)
        A = at.metric * X @ X.T + torch.eye(problem.N, dtype=torch.float64)
        at.correct(at.W, residual.clone())
        error = at.W + torch.linalg.solve(A, residual)
        distances.append(float((error * (A @ error)).sum()))  # in the norm in which each step is the best of its space
    assert all(after <= before * (1 + 1e-9) + 1e-20 for before, after in itertools.pairwise(distances))
    # One polynomial serves all neurons; of degree N it is 0 at all eigenvalues.
    assert distances[0] > 1e-3 and distances[-1] < 1e-18 * distances[0]


def test_both_ways_scale_by_the_same_c0():
    layer, images = made(9, bias=False)
    problem = operator_problem(layer, images)
    Y, on = torch.from_numpy(problem.Y.copy()), torch.from_numpy(problem.active.copy())
    operator = ConvolutionOperator(layer, images)
    metrics = [_OnImages(operator, problem, Y, on, inner, 10, None).metric for inner in ("gram", "cg")]
    held = Iteration(problem.replace(X=problem.X[:, :]), "cpu", "float64", (None, None), None).metric
    assert metrics == pytest.approx([held, held], rel=1e-13)


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_layer_keeps_its_responses_within_epsilon(activation):
    layer, images = made(10, dtype=torch.float32, padding=1)
    react = torch.relu if activation == "relu" else nn.Identity()
    with torch.no_grad():
        before = react(layer(images)).double()
    solution = solve_operator(layer, images, 0.2, activation=activation)
    write(plain(layer), [solution.W])
    with torch.no_grad():
        after = react(layer(images)).double()
    assert 0 < np.count_nonzero(solution.W) < solution.W.size
    # Proposition 1, with both violations of at most tol; float32 responses are good to 1e-6.
    assert float((after - before).norm()) <= 0.2 * float(before.norm()) * (1 + 2e-3) + 1e-5


def test_what_is_known_to_be_zero_is_zero():
    layer, images = made(11, padding=1)
    images[:, 2] = 0
    with torch.no_grad():
        layer.bias[4] = -1e3  # never on
    solution = solve_operator(layer, images)
    rows = solution.W[:-1].reshape(4, 9, 6)
    assert solution.status is Status.SOLVED and not rows[2].any() and not solution.W[:, 4].any() and rows[[0, 1, 3]].any()
    assert not np.signbit(solution.W[solution.W == 0]).any()


def test_at_a_radius_of_all_responses_nothing_is_kept():
    solution = solve_operator(*made(12), epsilon=1.0)
    assert solution.status is Status.SOLVED and not solution.W.any() and solution.iterations == 0


def test_an_iteration_is_not_enough_and_says_so():
    seen = []
    solution = solve_operator(*made(13), max_iter=1, callback=seen.append)
    assert solution.status is Status.UNMET and not solution.certificate.meets(1e-3)
    assert solution.iterations == 1 and [check.certificate for check in seen] == [solution.certificate]


def test_half_precision_lists_and_integers_are_taken():
    layer, images = made(14)
    half = images.half()
    expected = solve_operator(layer, half.float()).W
    assert np.array_equal(solve_operator(layer, half).W, expected)
    whole = (10 * images).round()
    expected = solve_operator(layer, whole).W
    for given_ in (whole.int(), whole.numpy(), whole.int().tolist()):
        assert np.array_equal(solve_operator(layer, given_).W, expected)


# --- the caller's PyTorch, and memory


@contextlib.contextmanager
def odd_defaults():
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


@pytest.mark.parametrize(("inner", "activation"), [("gram", "linear"), ("cg", "relu")])
@pytest.mark.parametrize("mode", [odd_defaults, torch.no_grad, torch.inference_mode])
def test_the_callers_settings_change_nothing(inner, activation, mode):
    layer, images = made(15, dtype=torch.float32)
    how = {"inner": inner, "activation": activation, "max_iter": 40}
    seen, expected = [], solve_operator(layer, images, **how)
    grad = torch.is_grad_enabled()
    with mode():
        outside = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")

        def look(check):
            seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))

        found = solve_operator(layer, images.clone().requires_grad_(), **how, callback=look)
    assert found.W.tobytes() == expected.W.tobytes() and found.dual.tobytes() == expected.dual.tobytes()
    assert seen and set(seen) == {outside} and torch.is_grad_enabled() == grad


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "conv"), reason="the switch came with PyTorch 2.9")
def test_convolutions_are_exact_whatever_the_caller_allows(monkeypatch):
    layer, images = made(16, dtype=torch.float32)
    switch, seen = torch.backends.mkldnn.conv, []
    convolved = ConvolutionOperator._convolved
    monkeypatch.setattr(
        ConvolutionOperator, "_convolved", lambda *given_: (seen.append(switch.fp32_precision), convolved(*given_))[1]
    )
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        solve_operator(layer, images, max_iter=3)
        assert switch.fp32_precision == "bf16"
    finally:
        switch.fp32_precision = before
    assert seen and set(seen) == {"ieee"}


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor had that PyTorch made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given_ = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in given_:
            self.numel = max(self.numel, out.untyped_storage().nbytes() // out.element_size())
        return out


@pytest.mark.parametrize("inner", ["gram", "cg"])
@pytest.mark.parametrize("penalize_bias", [True, False])
def test_patches_are_never_all_there(inner, penalize_bias):
    layer, images = made(17, shape=(200, 6, 8, 8), out=3)
    problem = operator_problem(layer, images)
    with Largest() as largest:
        solve_operator(layer, images, inner=inner, penalize_bias=penalize_bias, max_iter=2, room=100_000)
    # The images (77,000 numbers) and a block of 1,024 columns of a certificate (56,000) are larger than Y (22,000).
    assert largest.numel < 0.2 * problem.N * problem.P == 0.2 * 55 * 7200


# --- bad input


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), (5, 4, 7, 7), "takes a convolution of one group; this one has 2. Use trim"),
        (nn.Conv3d(4, 6, 3), (5, 4, 7, 7, 7), "for a Conv1d or a Conv2d; got Conv3d. Use trim"),
        (nn.ConvTranspose2d(4, 6, 3), (5, 4, 7, 7), "for a Conv1d or a Conv2d; got ConvTranspose2d"),
        (nn.Linear(4, 6), (5, 4), "for a Conv1d or a Conv2d; got Linear. Use trim"),
        (nn.Conv2d(4, 6, 3), (4, 7, 7), r"images must be \(n, 4, height, width\), .*; got \(4, 7, 7\)"),
        (nn.Conv2d(4, 6, 3), (5, 3, 7, 7), r"images must be \(n, 4, height, width\), .*; got \(5, 3, 7, 7\)"),
        (nn.Conv1d(4, 6, 3), (5, 4, 7, 7), r"images must be \(n, 4, length\), .*; got \(5, 4, 7, 7\)"),
        (nn.Conv2d(4, 6, 3), (0, 4, 7, 7), r"none of them 0, .*; got \(0, 4, 7, 7\)"),
        (nn.Conv2d(4, 6, 3, dilation=4), (5, 4, 7, 7), r"images of \(7, 7\) are smaller than what the kernel spans"),
        (nn.Conv2d(4, 6, 3, padding=7, padding_mode="reflect"), (5, 4, 7, 7), r"images of \(7, 7\) cannot be padded"),
    ],
)
def test_layers_and_images_that_do_not_fit_are_refused(layer, shape, message):
    images = torch.ones(shape)
    for asked in (solve_operator, operator_problem, ConvolutionOperator, LazyPatches):
        with pytest.raises(ModelError, match=message):
            asked(layer, images)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_images_and_weights_that_are_no_numbers_are_refused(bad):
    layer, images = made(18)
    images[3, 1, 2, 2] = bad
    with pytest.raises(ModelError, match="images hold NaN or Inf, first in image 3; remove such images"):
        solve_operator(layer, images)
    for given_ in (images + 1j, np.array([["a"]])):
        with pytest.raises(ModelError, match="images must hold real numbers; got"):
            solve_operator(layer, given_)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = bad
    with pytest.raises(ModelError, match="weights of the layer hold NaN or Inf"):
        solve_operator(layer, images.nan_to_num(0, 0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be a finite number, 0 or more; got -0.1"),
        ({"epsilon": np.nan}, "epsilon must be a finite number, 0 or more; got nan"),
        ({"epsilon": np.inf}, "epsilon must be a finite number, 0 or more; got inf"),
        ({"activation": "gelu"}, "activation must be 'relu' or 'linear'; got 'gelu'"),
        ({"inner": "lsqr"}, "inner must be 'gram' or 'cg'; got 'lsqr'"),
        ({"inner": "cg", "cg_iterations": 0}, "cg_iterations must be a whole number, at least 1; got 0"),
        ({"cg_iterations": 2.5}, "cg_iterations must be a whole number, at least 1; got 2.5"),
        ({"tol": 0.0}, "tol must be a positive number; got 0.0"),
        ({"max_iter": 0}, "max_iter must be a whole number, at least 1; got 0"),
        ({"room": 0}, "room must be a positive number of bytes; got 0"),
        ({"rho": -1.0}, "rho must be positive; got -1"),
        ({"relaxation": 2.0}, "relaxation must be between 0 and 2, both excluded; got 2"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'; got 'float16'"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ProblemError, match=message):
        solve_operator(*made(19), **options)
