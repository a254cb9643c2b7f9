"""The two schemes of Net-Trim: parallel is a map over layers, cascade a fold that carries the trimmed network on.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017), sections on parallel and cascade Net-Trim; here on any graph: a layer whose inputs
no trimmed layer has changed is stated on its own, in either scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor, nn

from nettrim.activations import Draw, record
from nettrim.errors import ModelError
from nettrim.layers import find, read, write
from nettrim.plan import Job, Plan
from nettrim.retrain import Outcome, retrain
from solvers import ProblemError, SolverError, Status

ROOM = 1 << 30  # bytes of inputs that are recorded in one run of the model, at most, unless one layer needs more


Known = Callable[[Job], Outcome | None]


def parallel(plan: Plan, trimmed: nn.Module, n_jobs: int | None, known: Known) -> Iterator[tuple[Job, Outcome]]:
    """Trim each layer on its original inputs, apart from the others.

    Parameters
    ----------
    plan : Plan
        Model, samples and layers.
    trimmed : torch.nn.Module
        A copy of the model; changed where a certificate is met.
    n_jobs : int or None
        Workers of joblib; None for those of the backend that the caller has made active, else one, in this process.
    known : callable
        Returns what is known of a job already, or None.

    Yields
    ------
    Job, Outcome
        In the order of the jobs, each as soon as it and those before it are done.
    """

    def tasks() -> Iterator[Any]:
        for job, X in inputs(plan.model, [job for job in plan.jobs if known(job) is None], plan.samples):
            layer = find(plan.model, job.use)
            yield delayed(_named)(job.use.name, read(layer), X, None, layer.storage, job.asked)

    outcomes = Parallel(n_jobs=n_jobs, return_as="generator", pre_dispatch="n_jobs")(tasks())
    for job in plan.jobs:
        outcome = known(job) or next(outcomes)
        _put(trimmed, job, outcome)
        yield job, outcome


def cascade(plan: Plan, trimmed: nn.Module, n_jobs: int | None, known: Known) -> Iterator[tuple[Job, Outcome]]:
    """Trim layer after layer, each on the inputs that reach it through the layers already trimmed.

    Parameters
    ----------
    plan, trimmed
        As in ``parallel``.
    n_jobs : int or None
        Not used: one layer needs the other.
    known : callable
        As in ``parallel``.

    Yields
    ------
    Job, Outcome
        In the order of the jobs.
    """
    original = inputs(plan.model, [job for job in plan.jobs if known(job) is None], plan.samples)
    for job in plan.jobs:
        outcome = known(job)
        if outcome is None:
            name = job.use.name
            _, X = next(original)
            X_hat = record(trimmed, {name: Draw(find(trimmed, job.use), job.rows)}, plan.samples)[name]
            layer = find(plan.model, job.use)
            outcome = _named(name, read(layer), X, None if np.array_equal(X, X_hat) else X_hat, layer.storage, job.asked)
        _put(trimmed, job, outcome)
        yield job, outcome


SCHEMES = {"parallel": parallel, "cascade": cascade}


def inputs(model: nn.Module, jobs: Iterable[Job], samples: Tensor) -> Iterator[tuple[Job, NDArray[Any]]]:
    """Yield layers and their inputs, several recorded in one run of the model where there is room.

    Parameters
    ----------
    model : torch.nn.Module
        The model to run.
    jobs : iterable of Job
        The layers.
    samples : torch.Tensor
        Inputs of the model.

    Yields
    ------
    Job, ndarray
        In the order of the jobs, X as in ``record``.
    """
    for group in _together(jobs, model):
        found = record(model, {job.use.name: Draw(find(model, job.use), job.rows) for job in group}, samples)
        for job in group:
            yield job, found.pop(job.use.name)


def _together(jobs: Iterable[Job], model: nn.Module) -> Iterator[list[Job]]:
    """Yield jobs in groups whose inputs take ``ROOM`` bytes at most, or one by one."""
    group: list[Job] = []
    taken = 0
    for job in jobs:
        size = 4 * find(model, job.use).n_inputs * len(job.rows)
        if group and taken + size > ROOM:
            yield group
            group, taken = [], 0
        group.append(job)
        taken += size
    if group:
        yield group


def _named(name: str, *arguments: Any) -> Outcome:
    """Retrain a layer; what is refused names it."""
    try:
        return retrain(*arguments)
    except ProblemError as error:
        raise ModelError(f"layer {name!r}: {error}") from error
    except SolverError as error:
        raise SolverError(f"layer {name!r}: {error}") from error


def _put(trimmed: nn.Module, job: Job, outcome: Outcome) -> None:
    """Write the weights where their certificate is met; else the layer stays dense."""
    if outcome.status is Status.SOLVED:
        write(find(trimmed, job.use), outcome.W)
