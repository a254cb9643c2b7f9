"""Ctrl-C in a solve by ``admm``: a real signal to a real process, in the iteration and in the threads of the finish."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import solvers

pytest.importorskip("numba")

ROOT = Path(solvers.__file__).parent.parent
SOLVE = """
import sys, threading
import numpy as np
import solvers
from solvers.backends import _layer

kind, epsilon = sys.argv[1], float(sys.argv[2])
rng = np.random.default_rng(0)
X, W = rng.standard_normal((400, 3000)), rng.standard_normal((400, 300))
problem = getattr(solvers.LayerProblem, kind)(X, W, epsilon)
solvers.warm_up("admm")
said = threading.Event()

def say():
    if not said.is_set():
        said.set()
        print("begun", flush=True)

Layer = {"parallel": _layer.SampleLayer, "linear": _layer.GramLayer}[kind]
original = Layer.neuron

def neuron(self, m, allowed):
    if threading.current_thread() is not threading.main_thread():
        say()
    return original(self, m, allowed)

Layer.neuron = neuron
if epsilon == 0:
    say()
try:
    solvers.solve(problem, "admm", tol=1e-9, throw=False)
finally:
    print(threading.active_count(), flush=True)
"""


# At radius 0 there is no finish, so that the signal finds the iteration.
@pytest.mark.parametrize(("kind", "epsilon"), [("parallel", 0.0), ("parallel", 0.05), ("linear", 0.05)])
def test_ctrl_c_ends_a_solve_at_once_and_leaves_no_thread(kind, epsilon):
    process = subprocess.Popen(
        [sys.executable, "-c", SOLVE, kind, str(epsilon)],
        cwd=ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.2)
        begin = time.perf_counter()
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        seconds = time.perf_counter() - begin
    assert error.rstrip().endswith("KeyboardInterrupt"), error
    assert process.returncode == -signal.SIGINT and out == "1\n"
    assert seconds < 2
