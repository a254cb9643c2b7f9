"""What the papers promise of a trimmed model, beside what was measured on its calibration samples.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017): Proposition 1 for a layer, Theorems 1 and 2 for the output of a chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn

from nettrim.layers import find, read
from nettrim.plan import Job, Plan
from nettrim.report import Checks
from nettrim.request import Request
from nettrim.retrain import Outcome
from solvers import Status
from theory import Check, cascade_bound, parallel_bound, posterior_bound

ROUNDING = 2.0**-20  # of float32 in the products that outputs are measured by, relative to the outputs: 8 units, layers few


def checks(
    plan: Plan, trimmed: nn.Module, outcomes: Mapping[str, Outcome], request: Request, error: float, norm: float
) -> Checks:
    """Hold every statement that applies against a trim.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    trimmed : torch.nn.Module
        The new model.
    outcomes : mapping of str to Outcome
        Of each job, by the name of its layer.
    request : Request
        What was asked.
    error, norm : float
        ``||Yhat - Y||_F`` and ``||Y||_F`` at the output of the network.

    Returns
    -------
    Checks
        A layer each, where its ceilings are 0; then the output, where the network is a chain whose layers are all trimmed.
        A promise of 0 (radius 0) is left out, for rounding alone would break it.
    """
    rows = [
        _layer(job, outcomes[job.use.name], request)
        for place, job in enumerate(plan.jobs)
        if _stated(job, outcomes, request, first=place == 0)
    ]
    done = [outcomes[job.use.name] for job in plan.jobs]
    if plan.chain and all(outcome.status is Status.SOLVED for outcome in done):
        rows += _output(plan, trimmed, done, request, error, norm)
    return Checks(rows)


def _stated(job: Job, outcomes: Mapping[str, Outcome], request: Request, *, first: bool) -> bool:
    """Tell whether Proposition 1 speaks of a layer; behind trimmed ones its ceilings may be above 0."""
    outcome = outcomes[job.use.name]
    own = request.scheme == "parallel" or first  # whether its inputs are the original ones
    return outcome.status is Status.SOLVED and outcome.epsilon > 0 and (own or job.asked.activation == "linear")


def _layer(job: Job, outcome: Outcome, request: Request) -> Check:
    # Ball and ceiling may each be exceeded by tol epsilon, and their squares add up.
    relu = job.asked.activation == "relu"
    slack = math.hypot(1 + request.tol, request.tol) - 1 if relu else request.tol
    source = "Proposition 1" if relu else "constraint (S.5)"
    radius = outcome.epsilon * (outcome.norm or 1.0)
    return Check(f"response error of {job.use.name}", source, outcome.error, radius, slack)


def _output(plan: Plan, trimmed: nn.Module, done: list[Outcome], request: Request, error: float, norm: float) -> list[Check]:
    """Return what is promised of the output: from what was reached and, where it applies, from the radii alone."""
    radii = [outcome.epsilon * (outcome.norm or 1.0) for outcome in done]
    reached = [outcome.error for outcome in done]
    old, new = ([find(model, job.use) for job in plan.jobs] for model in (plan.model, trimmed))
    free = [read(layer)[0][: layer.n_inputs] for layer in old]  # without bias rows
    tol, last = request.tol, plan.jobs[-1].asked
    what, rows = "output error", []

    def add(source: str, promised: float, slack: float) -> None:
        rows.append(Check(what, source, error, promised, slack + (ROUNDING * norm / promised if promised > 0 else 0.0)))

    if request.scheme == "parallel":
        after = [read(layer)[0][: layer.n_inputs] for layer in new]
        add("Theorem 1, from the errors reached, spectral norms", posterior_bound(after, reached), 0.0)
        add("Theorem 1, from the errors reached, Frobenius norms", posterior_bound(after, reached, norm="frobenius"), 0.0)
        if request.rounds == 0 and not request.refit and any(radii):  # else the l1 norm may have grown
            priced = [read(layer)[0] for layer in old] if request.penalize_bias else free
            # Each radius may be missed by tol twice, each l1 norm exceed the trained one by a gap of tol.
            add(
                "Theorem 1, l1 norms",
                parallel_bound(priced, radii),
                (1 + 2 * tol) ** len(radii) / (1 - tol) ** len(radii) - 1,
            )
        return rows
    add("the last program", reached[-1], 0.0)
    # Behind a layer that trimming did not change the next one is on its own again, with a radius of its own.
    carried = radii[0] > 0 and all(reached[:-1])
    if carried and request.gamma is not None and request.sparsity is None and request.budget is None:
        gammas, kappa = (
            [request.gamma] * (len(radii) - 1),
            last.kappa if last.activation == "linear" and len(radii) > 1 else 1.0,
        )
        slack = (1 + 2 * tol) ** len(radii) - 1
        add("Theorem 2, spectral norms", cascade_bound(free, radii[0], gammas, kappa=kappa), slack)
        add("Theorem 2, Frobenius norms", cascade_bound(free, radii[0], gammas, kappa=kappa, norm="frobenius"), slack)
    return rows
