"""The arithmetic of the benchmarks: exponents, and the programs of a part of a layer."""

import argparse
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import conic_curve, linear_vs_skglm, scaling
from solvers import LayerProblem, certify, solve


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_the_exponent_of_an_exact_power_is_found(power):
    sizes = np.array([1000, 4000, 16000, 60000])
    assert scaling.exponent(sizes, 3.5 * sizes**power) == pytest.approx(power, abs=1e-12)


def test_one_size_has_no_exponent():
    assert np.isnan(scaling.exponent([1000], [2.0]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process")
def test_the_watch_sees_memory_that_is_gone_again():
    watch = scaling.Watch()
    watch.start()
    block = np.ones(2**23)  # 67 MB, for some tens of looks
    time.sleep(50 * scaling.PAUSE)
    del block
    time.sleep(50 * scaling.PAUSE)
    assert 0.95 * 2**26 < watch.stop() < 1.2 * 2**26


def test_the_first_neurons_get_the_radius_of_their_own_responses():
    rng = np.random.default_rng(0)
    layer = LayerProblem.parallel(rng.normal(size=(5, 40)), rng.normal(size=(5, 6)), 0.1)
    part = scaling.first_neurons(layer, 2, 0.3)
    assert part.M == 2 and np.array_equal(part.Y, layer.Y[:2]) and np.array_equal(part.active, layer.active[:2])
    assert part.epsilon == pytest.approx(0.3 * part.norm, rel=1e-14)


def test_a_part_of_a_solved_layer_is_solved_by_its_columns_at_the_same_multiplier():
    rng = np.random.default_rng(1)
    layer = LayerProblem.linear(rng.normal(size=(12, 60)), rng.normal(size=(12, 8)), 0.4)
    solution = solve(layer, tol=1e-9)
    tau = linear_vs_skglm.multiplier(layer, solution)
    neurons = np.array([0, 3, 7])
    part = linear_vs_skglm.part(layer, solution, neurons)
    W = solution.W[:, neurons]
    dual = (W.T @ part.X - part.Y) / tau
    # The columns are optimal for the ball that is left to them. certify would scale a wrong tau away, hence the last line:
    # the optimality of a Lasso, |X(y - X'u)| <= tau with equality somewhere.
    assert certify(part, W, dual).meets(1e-7)
    assert np.abs(part.X @ (part.Y - W.T @ part.X).T).max() == pytest.approx(tau, rel=1e-6)


@pytest.mark.parametrize("text", ["50x5", "50x5x2x1", "axbxc"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="inputs x neurons x samples"):
        conic_curve.size(text)
    assert conic_curve.size("50x5x200") == (50, 5, 200)
