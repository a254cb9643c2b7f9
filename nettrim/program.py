"""The programs of one layer of a network, for those who call the solvers themselves."""

from __future__ import annotations

from typing import Any

from torch import nn

from nettrim.activations import Draw, gather, record
from nettrim.asked import programs
from nettrim.errors import ModelError
from nettrim.layers import find, read
from nettrim.plan import prepare
from nettrim.request import Request
from solvers import LayerProblem


def layer_problems(
    model: nn.Module,
    name: str,
    calibration: Any,
    epsilon: float = 0.1,
    *,
    penalize_bias: bool = True,
    n_samples: int = 10_000,
    seed: int = 0,
) -> list[LayerProblem]:
    """State the programs of one layer, as ``trim`` would in the parallel scheme.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network; not changed.
    name : str
        Of the layer, as a report has it.
    calibration : Tensor, ndarray or iterable of batches
        Unlabelled inputs of the network.
    epsilon : float, optional
        Radius relative to the Frobenius norm of the layer's responses.
    penalize_bias : bool, optional
        Whether the bias is priced like a weight.
    n_samples : int, optional
        Calibration samples, and samples of the program, at most.
    seed : int, optional
        Seed of their draws.

    Returns
    -------
    list of LayerProblem
        One a group; a Linear has one.

    Raises
    ------
    ModelError
        If no layer of that name can be trimmed, or as in ``trim``.
    """
    request = Request(epsilon=epsilon, penalize_bias=penalize_bias, n_samples=n_samples, seed=seed)
    plan = prepare(model, gather(calibration, n_samples, seed), request)
    jobs = [job for job in plan.jobs if job.use.name == name]
    if not jobs:
        names = ", ".join(job.use.name for job in plan.jobs)
        raise ModelError(f"no layer {name!r} can be trimmed; there are {names}")
    layer = find(plan.model, jobs[0].use)
    X = record(plan.model, {name: Draw(layer, jobs[0].rows)}, plan.samples)[name]
    return programs(read(layer), X, None, layer.storage, jobs[0].asked)
