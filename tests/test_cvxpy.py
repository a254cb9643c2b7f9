"""What is special to ``cvxpy``: a choice of solvers, their own options, a guard on memory."""

import re

import numpy as np
import pytest

from solvers import LayerProblem, solve


def test_solver_of_cvxpy_can_be_chosen(random_problem, consistent, kind):
    pytest.importorskip("cvxpy")
    pytest.importorskip("scs")
    problem, _ = random_problem(kind, 4)
    clarabel, scs = solve(problem, "cvxpy", tol=1e-4), solve(problem, "cvxpy", tol=1e-4, solver="SCS")
    assert consistent(clarabel.certificate, scs.certificate)
    assert clarabel.message.startswith("CLARABEL: optimal") and scs.message.startswith("SCS: optimal")
    assert clarabel.iterations != scs.iterations  # they are two solvers


def test_options_of_the_conic_solver_are_passed_on(random_problem):
    pytest.importorskip("cvxpy")
    problem, _ = random_problem("parallel", 4)
    rough = {"tol_gap_abs": 1e-2, "tol_gap_rel": 1e-2, "tol_feas": 1e-2}
    loose = solve(problem, "cvxpy", throw=False, solver_options=rough)
    assert loose.iterations < solve(problem, "cvxpy").iterations


def test_cvxpy_guards_the_memory_before_it_works():
    pytest.importorskip("cvxpy")
    from solvers.backends import cvxpy_

    # LeNet-300-100's first layer on 5,000 images, as arrays that take no memory. Asked, not solved: were the guard broken,
    # a solve would take the machine down with it.
    problem = LayerProblem(np.broadcast_to(1.0, (785, 5000)), np.broadcast_to(1.0, (300, 5000)), 0.1)
    reason = cvxpy_.refuses(problem)
    assert re.search(r"would need about \d{3} GB, over memory_limit=8 GB\. Use backend='admm', fewer samples or", reason)
    assert cvxpy_.refuses(problem, memory_limit=1e12) is None
