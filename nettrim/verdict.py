"""What is said of a trimmed model: a row a layer, the output's error and its bound, and how all of it holds elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nettrim.activations import forward, gather, survey
from nettrim.checks import checks
from nettrim.errors import ModelError
from nettrim.evaluate import accuracy
from nettrim.graph import LayerUse
from nettrim.layers import find, read
from nettrim.plan import Plan, drawn, reaching
from nettrim.report import LayerRow, TrimResult
from nettrim.request import Request
from nettrim.retrain import Outcome, response_error
from nettrim.schemes import inputs
from nettrim.unseen import Unseen, unseen
from solvers import ProblemError, Status
from theory import posterior_bound


@dataclass(frozen=True)
class HeldOut:
    """Samples that no program sees.

    Attributes
    ----------
    inputs : torch.Tensor
        Samples ``(n, ...)``.
    labels : torch.Tensor or None
        Class numbers ``(n,)``.
    confidence : float
        Of what they are to promise of new samples.
    """

    inputs: Tensor
    labels: Tensor | None
    confidence: float


def held_out(given: Any, confidence: float) -> HeldOut | None:
    """Read what is given as held-out samples.

    Parameters
    ----------
    given : Tensor, ndarray, pair of inputs and labels, or None
        As ``trim`` takes it.
    confidence : float
        Of what they are to promise.

    Returns
    -------
    HeldOut or None
        None where nothing is given.

    Raises
    ------
    ModelError
        If there are none, they hold NaN or Inf, or inputs and labels differ in number.
    ProblemError
        If the confidence is not over 0 and below 1.
    """
    if not 0 < confidence < 1:
        raise ProblemError(f"confidence must be over 0 and below 1; got {confidence}")
    if given is None:
        return None
    inputs, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    inputs = gather(inputs, sys.maxsize, 0)  # all of them
    if labels is None:
        return HeldOut(inputs, None, confidence)
    labels = torch.as_tensor(np.asarray(labels))
    if labels.shape != (len(inputs),) or labels.is_floating_point():
        raise ModelError(
            f"holdout takes class numbers, whole numbers of shape ({len(inputs)},), beside its inputs; got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    return HeldOut(inputs, labels, confidence)


def result(
    plan: Plan, trimmed: nn.Module, outcomes: Mapping[str, Outcome], other: HeldOut | None, request: Request
) -> TrimResult:
    """Put the report together.

    Parameters
    ----------
    plan : Plan
        What was to be done.
    trimmed : torch.nn.Module
        The new model.
    outcomes : mapping of str to Outcome
        Of each job, by the name of its layer.
    other : HeldOut or None
        Held-out samples.
    request : Request
        What was asked.

    Returns
    -------
    TrimResult
        The whole of it.
    """
    errors = {} if other is None else _on(other, plan, trimmed, request)
    asked = {job.use.name: job.asked.sparsity for job in plan.jobs}
    rows = [
        _row(use, trimmed, outcomes[use.name], errors.get(use.name), asked.get(use.name))
        if use.name in outcomes
        else LayerRow(**_counts(use, trimmed), activation=None, status="DENSE", note=f"kept dense: {use.note}")
        for use in plan.uses
    ]
    counts = [(p.numel(), int(torch.count_nonzero(p))) for p in trimmed.parameters()]
    output_error, output_norm = _distance(forward(trimmed, plan.samples), plan.outputs)
    theory = checks(plan, trimmed, outcomes, request, output_error, output_norm)
    far, promised = (None, None) if other is None else _elsewhere(other, plan.model, trimmed)
    labelled = other is not None and other.labels is not None
    return TrimResult(
        model=trimmed,
        layers=tuple(rows),
        bound=_bound(plan, trimmed, outcomes, request.scheme) if plan.chain else None,
        output_error=output_error,
        output_norm=output_norm,
        parameters=sum(total for total, _ in counts),
        parameters_kept=sum(kept for _, kept in counts),
        holdout_error=far,
        unseen=promised,
        accuracy=_accuracy(trimmed, other) if labelled else None,
        accuracy_dense=_accuracy(plan.model, other) if labelled else None,
        settings=request.settings | {"n_samples": len(plan.samples)},
        checks=theory,
    )


def _on(other: HeldOut, plan: Plan, trimmed: nn.Module, request: Request) -> dict[str, float]:
    """Return the relative response error of each trimmed layer on held-out samples, on the inputs that its scheme means."""
    found = {job.use.name: find(plan.model, job.use) for job in plan.jobs}
    _, shapes = survey(plan.model, found, other.inputs)
    jobs = []
    for place, job in enumerate(plan.jobs):
        reached = reaching(found[job.use.name], shapes[job.use.name])
        jobs.append(dataclasses.replace(job, rows=drawn(reached, request.n_samples, request.seed, place)))
    before = inputs(plan.model, jobs, other.inputs)
    after = inputs(trimmed, jobs, other.inputs) if request.scheme == "cascade" else None
    errors = {}
    for job, X in before:
        old, new = found[job.use.name], find(trimmed, job.use)
        X_hat = X if after is None else next(after)[1]
        errors[job.use.name] = response_error(read(old), read(new), X, X_hat, old.storage.bias, job.asked.activation)
    return errors


def _row(use: LayerUse, trimmed: nn.Module, outcome: Outcome, other: float | None, sparsity: float | None) -> LayerRow:
    met = outcome.status is Status.SOLVED
    return LayerRow(
        **_counts(use, trimmed),
        activation=use.activation,
        status=outcome.status.name,
        note="; ".join(part for part in (use.note, outcome.note) if part),
        samples=outcome.samples,
        sparsity=sparsity,
        epsilon=outcome.epsilon,
        achieved=outcome.achieved,
        holdout=other,
        gap=outcome.gap,
        ball_violation=outcome.ball_violation,
        ceiling_violation=outcome.ceiling_violation,
        error=outcome.error if met else 0.0,
        iterations=outcome.iterations,
        solves=outcome.solves,
        seconds=outcome.seconds,
        memory=outcome.memory,
    )


def _counts(use: LayerUse, model: nn.Module) -> dict[str, Any]:
    """Return the fields of a row that any layer has."""
    module = model.get_submodule(use.module)
    if use.activation is None:
        weight, bias, kind, groups = getattr(module, "weight", None), getattr(module, "bias", None), type(module).__name__, 1
    else:
        layer = find(model, use)
        weight, bias, kind, groups = layer.weight, layer.bias, layer.kind, layer.groups
    sizes = [(t.numel(), int(torch.count_nonzero(t))) if isinstance(t, Tensor) else (0, 0) for t in (weight, bias)]
    return {
        "name": use.name,
        "kind": f"{kind}+{type(model.get_submodule(use.norm)).__name__}" if use.norm else kind,
        "shape": tuple(weight.shape) if isinstance(weight, Tensor) else (),
        "groups": groups,
        "weights": sizes[0][0],
        "weights_kept": sizes[0][1],
        "biases": sizes[1][0],
        "biases_kept": sizes[1][1],
    }


def _bound(plan: Plan, trimmed: nn.Module, outcomes: Mapping[str, Outcome], scheme: str) -> float | None:
    """Return the proved bound on the output error of a chain; a row of ones carries no error, so biases are left out.

    In a cascade the last program is about the output itself: its error, on the inputs that reach it, is the output's.
    """
    done = [outcomes[job.use.name] for job in plan.jobs]
    errors = [outcome.error if outcome.status is Status.SOLVED else 0.0 for outcome in done]
    if scheme == "cascade":
        return errors[-1] if done[-1].status is Status.SOLVED else None
    weights = []
    for job in plan.jobs:
        layer = find(trimmed, job.use)
        weights.append(read(layer)[0][: layer.n_inputs])
    return posterior_bound(weights, errors)


def _distance(outputs: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Return ``||outputs - wanted||_F`` and ``||wanted||_F``, in float64."""
    outputs, wanted = outputs.double().flatten(), wanted.double().flatten()
    return float(torch.linalg.norm(outputs - wanted)), float(torch.linalg.norm(wanted))


def _elsewhere(other: HeldOut, original: nn.Module, trimmed: nn.Module) -> tuple[float, Unseen]:
    """Return the relative output error on held-out samples, and what they promise of new ones."""
    outputs, wanted = (forward(model, other.inputs) for model in (trimmed, original))
    error, norm = _distance(outputs, wanted)
    return error / (norm or 1.0), unseen(outputs, wanted, other.confidence)


def _accuracy(model: nn.Module, other: HeldOut) -> float:
    assert other.labels is not None  # the caller has looked
    parameter = next(model.parameters())
    inputs = other.inputs.to(parameter.device)
    inputs = inputs.to(parameter.dtype) if inputs.is_floating_point() else inputs
    return accuracy(model, inputs, other.labels.to(parameter.device))
