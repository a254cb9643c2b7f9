"""A convolution as an operator, and its patches cut where they are looked at, are the matrix of the patches."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nettrim import ModelError, SolverError, Status, solve
from nettrim.convolve import ConvolutionOperator
from nettrim.layers import plain, read
from nettrim.lazy import LazyPatches
from nettrim.operator_problem import operator_problem
from nettrim.patches import patches, windows
from tests.convolutions import convolutions, made, possible, stored

even_kernels = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")


# --- the products


@even_kernels
@settings(max_examples=60)
@given(convolutions(2, 1), st.sampled_from([1, 3000, 10**9]), st.integers(0, 99))
def test_products_are_those_of_the_patches_and_adjoint_to_each_other(drawn, room, seed):
    layer, images = drawn
    assume(possible(layer, images))
    X, before = stored(layer, images), images.clone()
    rng = np.random.default_rng(seed)
    W, L = (
        torch.from_numpy(rng.standard_normal((n, k)))
        for n, k in ((len(X), layer.out_channels), (layer.out_channels, X.shape[1]))
    )
    operator = ConvolutionOperator(layer, images, room=room)
    assert operator.shape == X.shape
    # Sums of at most N + P terms in float64, in another order.
    near = {"rtol": 0, "atol": 1e-12 * (1 + float(X.abs().max()) ** 2) * X.shape[1]}
    forward, adjoint = operator.forward(W), operator.adjoint(L)
    torch.testing.assert_close(forward, W.T @ X, **near)
    torch.testing.assert_close(adjoint, X @ L.T, **near)
    torch.testing.assert_close(operator.normal(W), X @ (X.T @ W), **near)
    torch.testing.assert_close(operator.squares(), (X * X).sum(1), **near)
    inner = float((forward * L).sum())
    assert inner == pytest.approx(float((W * adjoint).sum()), rel=0, abs=1e-13 * float(forward.norm() * L.norm()) * len(X))
    assert torch.equal(images, before)


@even_kernels
@settings(max_examples=50)
@given(convolutions(3, 3))
def test_windows_are_the_patches(drawn):
    layer, images = drawn
    assume(possible(layer, images))
    cut = patches(layer, images, torch.arange(plain(layer).rows(images)))
    assert torch.equal(windows(layer, images).reshape(cut.shape), cut)


def test_the_operator_computes_in_the_dtype_that_is_asked():
    layer, images = made(dtype=torch.float32)
    X, W = stored(layer, images).double(), torch.from_numpy(read(plain(layer))[0])
    wide, narrow = ConvolutionOperator(layer, images, torch.float64), ConvolutionOperator(layer, images)
    assert narrow.forward(W).dtype == narrow.adjoint(W.T @ X).dtype == torch.float32
    # N terms of the sizes of X and W; in float32 they are off by some 1e-7 of it.
    unit = 1e-14 * float(X.abs().max() * W.abs().max()) * len(X)
    torch.testing.assert_close(wide.forward(W), W.T @ X, rtol=0, atol=unit)
    assert float((narrow.forward(W) - W.T @ X).abs().max()) > 1e4 * unit


def test_products_of_the_wrong_shape_are_refused():
    operator = ConvolutionOperator(*made())
    for product in (operator.forward, operator.normal):
        with pytest.raises(ModelError, match=r"W must be \(37, 6\) for this layer and these images; got \(36, 6\)"):
            product(torch.zeros(36, 6))
    with pytest.raises(ModelError, match=r"L must be \(6, 500\) for this layer and these images; got \(500, 6\)"):
        operator.adjoint(torch.zeros(500, 6))


# --- patches that are cut where they are looked at


@even_kernels
@settings(max_examples=50)
@given(convolutions(2, 1), st.data())
def test_lazy_patches_are_the_patches(drawn, data):
    layer, images = drawn
    assume(possible(layer, images))
    X, lazy = stored(layer, images).numpy(), LazyPatches(layer, images, data.draw(st.sampled_from([1, 3000, 10**9])))
    assert (lazy.shape, lazy.dtype, lazy.ndim) == (X.shape, X.dtype, 2)
    begin = data.draw(st.integers(0, X.shape[1]))
    part = slice(begin, data.draw(st.integers(begin, X.shape[1])))
    assert np.array_equal(lazy[:, part], X[:, part]) and np.array_equal(lazy[:, :], X)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(X), max_size=len(X))), bool)
    assert np.array_equal(lazy[mask], X[mask]) and np.array_equal(lazy[[-1, 0]], X[[-1, 0]])
    assert (lazy.max(), lazy.min()) == (X.max(), X.min())
    assert np.array_equal(torch.hstack(list(lazy.pieces())).numpy(), X)


@pytest.mark.parametrize("key", [0, slice(2), (slice(None), 3), (slice(None), slice(0, 9, 2)), (0, slice(2)), (0, 0)])
def test_lazy_patches_say_how_they_are_read(key):
    with pytest.raises(TypeError, match=r"are read as X\[:, begin:end\] or X\[rows\]; X\[:, :\] stores them"):
        LazyPatches(*made())[key]


def test_a_backend_refuses_patches_that_are_not_stored():
    problem = operator_problem(*made())
    with pytest.raises(
        SolverError, match=r"X of this problem are not stored.*replace\(X=problem.X\[:, :\]\).*solve_operator"
    ):
        solve(problem)
    assert solve(problem.replace(X=problem.X[:, :])).status is Status.SOLVED
