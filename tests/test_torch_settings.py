"""The ``torch`` backend leaves PyTorch as it was: precisions, grad mode, autocast, after the call and in the callback."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from solvers import LayerProblem, Status, solve

torch = pytest.importorskip("torch")


from solvers.backends import _tensors  # noqa: E402

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
TF32 = hasattr(torch.backends.cuda.matmul, "fp32_precision")  # the switches of PyTorch 2.9
since_29 = pytest.mark.skipif(not TF32, reason="these switches came with PyTorch 2.9")


def settings():
    """Return all of PyTorch's global state that a solver might be tempted to touch."""
    kept = {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "generator": torch.get_rng_state().numpy().tobytes(),
    }
    with contextlib.suppress(RuntimeError):  # PyTorch refuses to tell, once the newer switches were used
        kept["precision"] = torch.get_float32_matmul_precision()
    if TF32:
        kept["cuda"] = torch.backends.cuda.matmul.fp32_precision
        kept["mkldnn"] = torch.backends.mkldnn.matmul.fp32_precision
        kept["all"] = torch.backends.fp32_precision
    return kept


@pytest.fixture
def put_back():
    """Give PyTorch known settings, one thread among them, and again after the test or when called."""
    threads = torch.get_num_threads()

    def reset():
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")  # which pins the products that follow
        if TF32:
            for switch in (torch.backends, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
                switch.fp32_precision = "none"

    reset()
    torch.set_num_threads(1)
    yield reset
    reset()
    torch.set_num_threads(threads)


def nothing():
    pass


def legacy():
    torch.set_float32_matmul_precision("medium")


def per_product():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def both():
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def for_all():
    torch.backends.fp32_precision = "tf32"


def odd_defaults():
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("meta")
    torch.use_deterministic_algorithms(True)


NEWER = [pytest.param(caller, marks=since_29) for caller in (per_product, both, for_all)]
CALLERS = [nothing, legacy, *NEWER, odd_defaults]
every_caller = pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__)


@every_caller
def test_settings_are_the_callers_after_the_call_and_in_the_callback(random_problem, put_back, caller):
    problem, _ = random_problem("parallel", 0)
    caller()
    before, seen = settings(), []
    found = solve(problem, "torch", callback=lambda _: seen.append(settings()))
    assert settings() == before and all(during == before for during in seen) and seen
    put_back()
    expected = solve(problem, "torch")
    assert found.W.tobytes() == expected.W.tobytes() and found.dual.tobytes() == expected.dual.tobytes()


@every_caller
@pytest.mark.parametrize("where", ["callback", "loop"])
@pytest.mark.parametrize("thrown", [ZeroDivisionError, KeyboardInterrupt, RuntimeError])
def test_settings_are_the_callers_after_an_exception(random_problem, monkeypatch, put_back, caller, where, thrown):
    caller()
    before, calls = settings(), []

    def throw(*_):
        calls.append(settings())
        if len(calls) == 2:
            raise thrown("enough")

    if where == "loop":
        monkeypatch.setattr(_tensors.Iteration, "project", throw)
    with pytest.raises(thrown, match="enough"):
        solve(random_problem("parallel", 0)[0], "torch", tol=1e-12, callback=throw if where == "callback" else None)
    assert settings() == before
    if where == "loop":  # where the products are, they are exact
        assert calls[-1]["inference"] and calls[-1].get("precision", "highest") == "highest"
        assert not {calls[-1].get("cuda"), calls[-1].get("mkldnn")} & {"tf32", "bf16"}


@since_29
def test_a_wider_switch_still_rules_afterwards(random_problem, put_back):
    # What a product has inherited must not be pinned to it.
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    solve(random_problem("parallel", 0)[0], "torch")
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_the_older_switch(random_problem, monkeypatch, put_back):
    # PyTorch before 2.9 has one switch, and no fp32_precision.
    torch.set_float32_matmul_precision("high")
    seen = []
    project = _tensors.Iteration.project
    monkeypatch.setattr(
        _tensors.Iteration, "project", lambda at: (seen.append(torch.get_float32_matmul_precision()), project(at))
    )
    with monkeypatch.context() as older:
        older.setattr(torch.backends.cuda, "matmul", SimpleNamespace())
        solve(random_problem("parallel", 0)[0], "torch")
    assert set(seen) == {"highest"} and torch.get_float32_matmul_precision() == "high"


def test_autocast_and_grad_mode_change_nothing(random_problem):
    problem, _ = random_problem("parallel", 1)
    expected = solve(problem, "torch").W.tobytes()
    with torch.autocast("cpu", torch.bfloat16):
        assert solve(problem, "torch").W.tobytes() == expected
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert solve(problem, "torch").W.tobytes() == expected


@needs_cuda
def test_tf32_of_the_caller_does_not_spoil_the_products(random_layer, put_back):
    # Its rounding of 1e-3 would leave violations far above this tolerance.
    problem = LayerProblem.parallel(*random_layer(3, 200, 100, 1500, np.float32), 0.1)
    torch.set_float32_matmul_precision("high")
    assert solve(problem, "torch", tol=1e-4, dtype="float32", device="cuda").status is Status.SOLVED
    assert torch.get_float32_matmul_precision() == "high"
