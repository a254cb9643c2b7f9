"""What is the ``torch`` backend's alone: it iterates as ``admm`` does, waits for no device, and leaves PyTorch as it was.

What every backend must keep, it keeps in ``test_backends.py``. The tests on CUDA are skipped where there is none.
"""

import itertools
import re

import numpy as np
import pytest

from solvers import LayerProblem, SolverError, Status, solve
from solvers.backends import admm
from solvers.backends._balance import FIRST_RHO
from solvers.backends._checkpoints import checkpoints
from solvers.prox import project_ball, project_ceiling, soft_threshold

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 (the line above may end the file)

from solvers.backends import _tensors, torch_  # noqa: E402

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


# --- the iteration


def written_down(problem, iterations, rho, change, late, start=None):
    """Return (q, dual) of the iteration of ``admm.solve``, as its docstring states it; rho changes at each look."""
    X, on, relaxation = problem.X, problem.active, admm.RELAXATION
    G = X @ X.T
    metric = 1 / (0.3**2 * G.max())
    inverse = np.linalg.inv(G * metric + np.eye(problem.N))
    W, L = (np.zeros((problem.N, problem.M)), np.zeros(on.shape)) if start is None else (start.W, start.dual)
    g, looks = W.T @ X, checkpoints()
    s1, s2, look = g - L / (rho * metric), W + X @ L.T / rho, next(looks)
    for iteration in range(1, iterations + 1):
        p = project_ceiling(project_ball(2 * g - s1, problem.Y, on, problem.epsilon), problem.V, on)
        q = soft_threshold(2 * W - s2, problem.penalty / rho)
        dual = rho * metric * (2 * g - s1 - p)
        relaxation = admm.LATE_RELAXATION if iteration >= late else relaxation
        s1, s2 = s1 + relaxation * (p - g), s2 + relaxation * (q - W)
        if iteration == look:
            look = next(looks)
            s1, s2, rho = g + (s1 - g) / change, W + (s2 - W) / change, rho * change
        W = inverse @ (metric * (X @ s1.T) + s2)
        g = W.T @ X
    return q, dual


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("device", "iterations"),
    [("cpu", 1), ("cpu", 2), ("cpu", 20), ("cpu", 21), ("cpu", 60), pytest.param("cuda", 60, marks=needs_cuda)],
)
def test_the_iteration_is_that_of_admm(random_problem, monkeypatch, kind, device, iterations, warm):
    monkeypatch.setattr(admm, "LATE", 40)
    monkeypatch.setattr(admm.Balance, "change", lambda self, certificate: 0.8)
    problem, _ = random_problem(kind, 3)
    start = solve(problem, "reference", tol=1e-1, throw=False, max_iter=50) if warm else None
    options = {"max_iter": iterations, "start": start, "rho": 2.0, "dtype": "float64", "device": device}
    found = solve(problem, "torch", tol=1e-14, throw=False, **options)
    assert found.iterations == iterations
    q, dual = written_down(problem, iterations, 2.0, 0.8, 40, start)
    # Two orders of the same sums in float64, 60 iterations long.
    np.testing.assert_allclose(found.W, np.where(problem.penalty == np.inf, 0, q), rtol=0, atol=1e-10 * np.abs(q).max())
    np.testing.assert_allclose(found.dual, dual, rtol=0, atol=1e-10 * np.abs(dual).max())


def test_first_rho_is_that_of_admm(random_layer):
    X, W = random_layer(0, 8, 5, 23)
    problem = LayerProblem.parallel(X, W, 0.1)
    G = X @ X.T
    ridge = np.linalg.solve(G / (0.09 * G.max()) + np.eye(8), X @ problem.Y.T) / (0.09 * G.max())
    at = _tensors.Iteration(problem, "cpu", "float64", (None, None), None)
    assert at.rho == pytest.approx(FIRST_RHO * np.abs(ridge).sum() / np.square(ridge).sum(), rel=1e-12)


def test_precision_follows_the_tolerance(random_problem):
    problem, _ = random_problem("parallel", 5)
    assert solve(problem, "torch", tol=1e-3).W.dtype == np.float32
    assert solve(problem, "torch", tol=1e-5).W.dtype == np.float64
    assert solve(problem, "torch", tol=1e-3, dtype="float64").dual.dtype == np.float64


def test_views_of_every_kind_are_taken(random_layer):
    # Read-only all of them; torch.from_numpy would warn of that, which is an error here.
    X, W = random_layer(1, 9, 5, 30)
    plain = LayerProblem.parallel(X, W, 0.1)
    expected = solve(plain, "torch").W.tobytes()
    Y, V, active = plain.Y[:, ::-1].copy(), plain.V[:, ::-1].copy(), plain.active[:, ::-1].copy()
    mirrored = LayerProblem(
        X[:, ::-1].copy()[:, ::-1], Y[:, ::-1], plain.epsilon, V[:, ::-1], active[:, ::-1], np.ones((5, 9)).T[::-1, ::-1]
    )
    assert mirrored.X.strides[1] < 0 and solve(mirrored, "torch").W.tobytes() == expected
    assert solve(LayerProblem.linear(X, W, 0.1), "torch").status is Status.SOLVED  # its mask is one True, spread


# --- no waiting


class Recorder(TorchDispatchMode):
    """Notes what PyTorch is asked to do: (name, whether it made a tensor of ``size`` entries or more)."""

    def __init__(self, size):
        super().__init__()
        self.size, self.calls = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in [*args, *(kwargs or {}).values()] if isinstance(a, torch.Tensor)]
        known = {a.untyped_storage().data_ptr() for a in given}
        made = isinstance(out, torch.Tensor) and out.numel() >= self.size
        self.calls.append((func.name().split(".")[0], made and out.untyped_storage().data_ptr() not in known))
        return out


@every_device
def test_no_round_trip_and_no_new_matrix_between_two_looks(random_problem, device):
    problem, _ = random_problem("parallel", 6, 8, 5, 40)
    looks = []
    with Recorder(problem.N * problem.M) as recorder:

        def look(check):
            looks.append((check.iteration, len(recorder.calls)))

        solve(problem, "torch", tol=1e-14, max_iter=120, throw=False, callback=look, device=device, dtype="float32")
    assert len(looks) > 10
    for (before, begin), (after, end) in itertools.pairwise(looks):
        calls = recorder.calls[begin:end]
        names = [name for name, _ in calls]
        assert (
            names.count("aten::addmm") + names.count("aten::addmm_") == 3 * (after - before) + 1
        )  # it sees all that is done
        assert "aten::_local_scalar_dense" not in names and "aten::item" not in names
        # Weights and multipliers go home to be judged, which PyTorch tells once or twice; on a CPU they are there already.
        home = ("aten::to", "aten::_to_copy")
        assert sum(name in home for name in names) in (2, 4)
        made = [name for name, made in calls if made and not (name in home and device == "cuda")]
        # The thresholds of a new rho, at a look and not in between; here they are a number.
        assert made == []


# --- devices and memory


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "tpu", torch.device("meta")])
def test_a_device_that_is_not_there_is_refused(random_problem, device):
    message = f"backend 'torch' refuses this problem: device '{device}' is not here; PyTorch finds cpu"
    with pytest.raises(SolverError, match=message):
        solve(random_problem("parallel", 0)[0], "torch", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_is_refused_where_there_is_none(random_problem):
    with pytest.raises(SolverError, match="device 'cuda' is not here; PyTorch finds cpu"):
        solve(random_problem("parallel", 0)[0], "torch", device="cuda")


def test_a_device_may_be_an_object(random_problem):
    problem, _ = random_problem("parallel", 0)
    by_name, by_object = (solve(problem, "torch", device=device) for device in ("cpu", torch.device("cpu")))
    assert by_name.W.tobytes() == by_object.W.tobytes() == solve(problem, "torch").W.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, "rho must be positive; got 0"),
        ({"rho": np.nan}, "rho must be positive; got nan"),
        ({"relaxation": 2.0}, "relaxation must be between 0 and 2, both excluded; got 2"),
        ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'; got 'float16'"),
    ],
)
def test_refused_with_a_reason(random_problem, options, message):
    with pytest.raises(SolverError, match=f"backend 'torch' refuses this problem: {message}"):
        solve(random_problem("parallel", 0)[0], "torch", **options)


def test_mps_has_no_float64(random_problem, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    problem, _ = random_problem("parallel", 0)
    with pytest.raises(SolverError, match="device 'mps' has no float64; use dtype='float32' or device='cpu'"):
        solve(problem, "torch", device="mps", dtype="float64")
    with pytest.raises(SolverError, match="tol 1e-05 asks for float64, which 'mps' has not; use dtype='float32' or"):
        solve(problem, "torch", device="mps", tol=1e-5)
    assert torch_.refuses(problem, device="mps") is None


def test_what_does_not_fit_is_refused_before_any_work(monkeypatch):
    # Arrays that take no memory; asked, not solved. X is 0.2 GB in float32, and so is each of five (M, P) arrays.
    problem = LayerProblem(np.broadcast_to(1.0, (1000, 50_000)), np.broadcast_to(1.0, (1000, 50_000)), 0.1)
    free = [1.2e9]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 80e9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1e9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1e9)
    reason = torch_.refuses(problem, device="cuda")
    assert re.fullmatch(
        r"of its memory 1\.20 GB are free, and 1000 x 1000 weights on 50000 samples need about 1\.29 GB on 'cuda' in "
        r"float32 \(X, and five arrays of the shape of Y\)\. Use fewer samples, or device='cpu'",
        reason,
    )
    free[0] = 1.3e9
    assert torch_.refuses(problem, device="cuda:0") is None
    assert "in float64" in torch_.refuses(problem, device="cuda", dtype="float64")
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)  # what PyTorch holds unused can be used
    free[0] = 1.2e9
    assert torch_.refuses(problem, device="cuda") is None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_estimate_of_memory_counts_what_is_held(random_layer, dtype):
    problem = LayerProblem.parallel(*random_layer(0, 40, 30, 2000), 0.1, penalty=np.ones((40, 30)))
    at = _tensors.Iteration(problem, "cpu", dtype, (None, None), None)
    held = sum(t.nbytes for t in vars(at).values() if isinstance(t, torch.Tensor))
    block = 8 * (problem.N * problem.P + 3 * problem.N**2)  # given back when the inverse is made
    assert held == pytest.approx(torch_.bytes_needed(problem, dtype) - block, rel=1e-3)  # scalars and (M,) are not counted


@pytest.mark.parametrize("when", ["__init__", "project"])
@pytest.mark.parametrize(
    "error",
    [
        getattr(torch, "OutOfMemoryError", RuntimeError)("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
    ids=["CUDA", "CPU"],
)
def test_out_of_memory_says_what_was_needed_and_what_to_do(random_problem, monkeypatch, when, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(_tensors.Iteration, when, fail)
    message = r"out of memory: 8 x 5 weights on 23 samples need about 0\.00 GB on 'cpu' in float32 .*Use fewer samples, or"
    with pytest.raises(SolverError, match=message) as caught:
        solve(random_problem("parallel", 0)[0], "torch")
    assert caught.value.__cause__ is error


def test_out_of_memory_of_the_caller_is_the_callers(random_problem):
    def fail(check):
        raise RuntimeError("CUDA out of memory, in a callback")

    with pytest.raises(RuntimeError, match="in a callback"):
        solve(random_problem("parallel", 0)[0], "torch", callback=fail)


# --- on a GPU


@needs_cuda
@pytest.mark.parametrize("tol", [1e-3, 1e-4, 1e-6])
def test_cuda_meets_the_certificate_of_the_cpu(random_problem, consistent, kind, tol):
    problem, _ = random_problem(kind, 2, 20, 9, 70)
    here, there = solve(problem, "torch", tol=tol), solve(problem, "torch", tol=tol, device="cuda")
    assert there.status is Status.SOLVED and consistent(here.certificate, there.certificate)


@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cuda_gives_the_same_bytes_twice(random_layer, dtype):
    problem = LayerProblem.parallel(*random_layer(3, 200, 100, 1500), 0.1)
    first, second = (solve(problem, "torch", dtype=dtype, device="cuda") for _ in range(2))
    assert first.W.tobytes() == second.W.tobytes() and first.dual.tobytes() == second.dual.tobytes()


@needs_cuda
def test_estimate_of_memory_holds_on_cuda(random_layer):
    problem = LayerProblem.parallel(*random_layer(0, 500, 400, 20_000, np.float32), 0.1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    solve(problem, "torch", max_iter=30, throw=False, device="cuda")
    peak = torch.cuda.max_memory_allocated() - before
    need = torch_.bytes_needed(problem, "float32")
    # cuBLAS keeps a workspace, of up to 32 MiB on the largest cards; and not all of the estimate is held at one time.
    assert 0.6 * need <= peak <= 1.1 * need + 2**26
    assert torch.cuda.memory_allocated() - before <= 2**26  # and nothing is left behind


@needs_cuda
def test_out_of_memory_on_cuda(random_layer):
    problem = LayerProblem.parallel(*random_layer(0, 500, 400, 20_000, np.float32), 0.1)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(SolverError, match=r"out of memory: .* need about 0\.\d\d GB on 'cuda' in float32"):
            solve(problem, "torch", device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert solve(problem, "torch", max_iter=5, throw=False, device="cuda").iterations == 5
