"""A memory limit of ``admm``: the same certified answer from a few neurons at a time, files that leave nothing behind."""

import logging
import re
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from solvers import LayerProblem, SolverError, Status, certify, solve
from solvers.backends import _memory, admm
from solvers.backends._memory import plan
from solvers.registry import _known_zeros


@pytest.fixture
def layer(random_layer):
    """A layer whose (M, P) arrays are larger than what the certificate works with, which no limit can spare."""
    return LayerProblem.parallel(*random_layer(0, 20, 70, 9000), 0.2)


def whole(problem, dtype=np.float32):
    """Return the bytes that a solve without a limit takes, by the plan; these layers are small, so BLAS has one thread."""
    return plan(problem, dtype, None, gram=problem.activation == "linear", threads=1).memory


@pytest.mark.parametrize("kind", ["parallel", "float32", "linear", "ceiling", "free bias"])
def test_the_answer_is_as_good_as_that_of_the_whole(kind, random_layer):
    X, W = random_layer(0, 20, 70, 6000)
    if kind == "ceiling":  # Y is not the target where the neuron is off, so that a copy is needed
        base = LayerProblem.parallel(X, W, 0.2)
        problem = base.replace(V=np.random.default_rng(1).uniform(0, 0.3, base.Y.shape))
    elif kind == "linear":
        problem = LayerProblem.linear(X, W, 0.2)
    elif kind == "free bias":
        problem = LayerProblem.from_activations(X.T, W.T, np.ones(70), 0.2, penalize_bias=False)
    else:
        problem = LayerProblem.parallel(X.astype(np.float32 if kind == "float32" else np.float64), W, 0.2)
    free, held = solve(problem, tol=1e-4), solve(problem, tol=1e-4, memory_limit=whole(problem) - 1e5)
    assert "temporary files" in held.message and "temporary files" not in free.message
    assert held.status is Status.SOLVED
    again = certify(problem, held.W, held.dual)  # with all of BLAS's threads, so that its sums are in another order
    assert again.objective == held.certificate.objective and abs(again.gap - held.certificate.gap) <= 1e-10
    # Either is within tol of the optimum, or below it by what its violations buy at the price of the multipliers.
    c = free.certificate
    slack = 1e-4 * (c.objective + problem.epsilon * (c.ball_multiplier + c.ceiling_multiplier))
    assert abs(held.certificate.objective - c.objective) <= 2 * slack


def test_the_same_limit_gives_the_same_bytes(layer):
    first, second = (solve(layer, memory_limit=whole(layer) - 1e5) for _ in range(2))
    assert first.W.tobytes() == second.W.tobytes() and np.array_equal(first.dual, second.dual)


def test_an_iteration_in_parts_is_the_iteration(layer):
    # 39 steps in float64 before the finish: what differs is the rounding of the products.
    free, held = (
        solve(layer, tol=1e-9, max_iter=39, throw=False, dtype="float64", memory_limit=limit)
        for limit in (None, whole(layer, np.float64) - 1e5)
    )
    assert held.message != free.message
    assert np.abs(held.W - free.W).max() <= 1e-9 * np.abs(free.W).max()
    assert np.abs(held.dual - free.dual).max() <= 1e-9 * np.abs(free.dual).max()


def test_a_warm_start_and_a_change_of_rho_go_in_parts_too(layer, monkeypatch):
    # The first finish, which comes at once after such a start, would end it.
    monkeypatch.setattr(admm, "_finish", lambda problem, steps, layer, judge, iteration, limit: (None, None, iteration))
    start = solve(layer.replace(epsilon=0.8 * layer.epsilon), tol=1e-2)
    free, held = (
        solve(layer, tol=1e-9, max_iter=30, throw=False, dtype="float64", start=start, rho=1e-3, memory_limit=limit)
        for limit in (None, whole(layer, np.float64) - 1e5)
    )
    assert free.certificate.gap != 0 and free.iterations == 30
    assert np.abs(held.W - free.W).max() <= 1e-6 * np.abs(free.W).max()


def test_inputs_may_be_memory_mapped(tmp_path, random_layer):
    X, W = random_layer(0, 20, 70, 6000)
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    inputs = np.load(tmp_path / "X.npy", mmap_mode="r")
    mapped = LayerProblem.parallel(inputs, W.astype(np.float32), 0.2)
    plain = LayerProblem.parallel(np.array(inputs), W.astype(np.float32), 0.2)
    assert np.shares_memory(mapped.X, inputs)
    assert solve(mapped).W.tobytes() == solve(plain).W.tobytes()


def test_no_file_is_left_behind(tmp_path, monkeypatch, layer):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen, made = [], _memory.zeros

    def watched(shape, dtype, *, on_disk):
        array = made(shape, dtype, on_disk=on_disk)
        seen.append((on_disk, list(tmp_path.iterdir())))
        return array

    monkeypatch.setattr(_memory, "zeros", watched)
    solution = solve(layer, memory_limit=whole(layer) - 1e5)
    assert any(on_disk for on_disk, _ in seen)
    assert not any(files for _, files in seen)  # unlinked at birth, so that no end of the process can leave one
    assert solution.dual.shape == layer.Y.shape


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is always full")
def test_a_full_disk_is_an_error_and_not_a_signal(layer, monkeypatch):
    monkeypatch.setattr(_memory.os, "posix_fallocate", lambda *_: Path("/dev/full").write_bytes(b"x"))
    with pytest.raises(OSError, match="No space left"):
        solve(layer, memory_limit=whole(layer) - 1e5)


def test_what_it_will_need_is_said_before_it_starts(caplog, layer):
    said = []
    with caplog.at_level(logging.INFO, logger="solvers"):
        solution = solve(layer, memory_limit=whole(layer) - 1e5, callback=lambda _: said.append(caplog.messages[:]))
    assert len(said[0]) == 1 and solution.message in said[0][0]
    assert "of memory beyond the problem" in solution.message and "neurons at a time" in solution.message


def test_a_limit_too_small_for_one_neuron_names_the_number(layer):
    least = plan(layer, np.float32, 1.0, gram=False).least
    with pytest.raises(SolverError, match=re.escape(f"one neuron at a time needs {least:.4g}")):
        solve(layer, memory_limit=1e6)
    assert solve(layer, memory_limit=least * 1.001).status is Status.SOLVED
    with pytest.raises(SolverError, match="positive number of bytes"):
        solve(layer, memory_limit=0)


@pytest.mark.parametrize("limit", [1.0, 29e6, 29.6e6, 31e6, 39e6, 41e6, 1e9, None])
def test_a_plan_keeps_to_its_limit_or_says_that_it_cannot(limit, layer):
    made = plan(layer, np.float32, limit, gram=False, threads=2)
    if limit is None or made.memory <= limit:
        assert 1 <= made.rows <= layer.M and (made.disk == 0) == (made.rows == layer.M)
    else:
        assert made.rows == 1 and made.memory == made.least > limit


def test_what_is_known_to_be_zero_is_found_without_an_array_of_all_responses(random_layer):
    X, W = random_layer(0, 12, 240, 60_000, np.float32)
    problem = LayerProblem.parallel(X, W, 0.1)
    tracemalloc.start()
    try:
        _known_zeros(problem)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < problem.active.nbytes / 4
