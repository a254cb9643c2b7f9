"""The public door: trim a trained network layer by layer, each layer by its own certified program.

Parallel Net-Trim of Aghasi, Abdi, Nguyen, Romberg (NIPS 2017): every layer on its original inputs, apart from the others.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from nettrim import layers
from nettrim.activations import forward, gather, layer_inputs
from nettrim.errors import ModelError
from nettrim.graph import Graph, LayerUse, trace
from nettrim.progress import track
from nettrim.report import LayerRow, TrimResult
from solvers import ProblemError, SolverError, available, certify, missing, solve
from theory import posterior_bound

SCHEMES = ("parallel",)


def trim(
    model: nn.Module,
    calibration: Any,
    epsilon: float = 0.1,
    *,
    scheme: str = "parallel",
    backend: str = "admm",
    tol: float = 1e-3,
    max_iter: int | None = None,
    n_samples: int = 10_000,
    seed: int = 0,
    penalize_bias: bool = True,
    strict: bool = False,
) -> TrimResult:
    """Find, for each layer, the l1-smallest weights that keep its responses to unlabelled data within epsilon.

    Networks of Linear, ReLU in any spelling, Dropout (off) and Flatten, with a linear last layer, are trimmed whole. Other
    layers with parameters stay dense and are named in the report. So does a layer that misses its certificate, so that
    what the report proves holds for the model as it is.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network. Never changed; evaluated as in evaluation mode.
    calibration : Tensor, ndarray or iterable of batches
        Unlabelled inputs; what follows an input in a tuple is ignored.
    epsilon : float, optional
        Radius of every layer, relative to the Frobenius norm of its responses.
    scheme : {"parallel"}, optional
        How the layers hang together.
    backend : str, optional
        One of ``solvers.available()``.
    tol : float, optional
        Of every certificate: relative gap, and violations relative to epsilon.
    max_iter : int, optional
        Iterations a layer at most.
    n_samples : int, optional
        Calibration samples used, at most.
    seed : int, optional
        Seed of their draw.
    penalize_bias : bool, optional
        Whether biases are priced like weights, as the authors do, or are free.
    strict : bool, optional
        Whether a layer that cannot be trimmed is an error.

    Returns
    -------
    TrimResult
        The new model, and a row a layer.

    Raises
    ------
    ModelError
        If the model cannot be traced or has no layer to trim, the calibration does not fit it, a number in either is NaN
        or Inf, or, with ``strict``, a layer would stay dense.
    ProblemError
        If epsilon, tol or max_iter is out of its range.
    SolverError
        If the backend is unknown, not installed, or refuses a layer.
    """
    _check_request(epsilon, scheme, backend, tol, max_iter)
    original = copy.deepcopy(model).eval()
    graph = trace(original)
    _check_layers(original, graph, strict)
    samples = gather(calibration, n_samples, seed)
    Y = forward(original, samples)  # before any solve, so that calibration that does not fit fails here
    trimmed = copy.deepcopy(model)
    rows = []
    for use in track(graph.layers, "trimming"):
        layer = original.get_submodule(use.name)
        if use.activation is None:
            rows.append(_dense_row(use, layer))
            continue
        inputs = layer_inputs(original, use.name, samples)
        rows.append(trim_layer(trimmed.get_submodule(use.name), use, inputs, epsilon, backend, tol, max_iter, penalize_bias))
    counts = [(p.numel(), int(torch.count_nonzero(p))) for p in trimmed.parameters()]
    return TrimResult(
        model=trimmed,
        layers=tuple(rows),
        bound=_bound(trimmed, rows) if graph.chain else None,
        output_error=float(torch.linalg.norm((forward(trimmed, samples).double() - Y.double()).flatten())),
        output_norm=float(torch.linalg.norm(Y.double().flatten())),
        parameters=sum(total for total, _ in counts),
        parameters_kept=sum(kept for _, kept in counts),
        settings={
            "epsilon": epsilon,
            "scheme": scheme,
            "backend": backend,
            "tol": tol,
            "max_iter": max_iter,
            "n_samples": len(samples),
            "seed": seed,
            "penalize_bias": penalize_bias,
        },
    )


def trim_layer(
    layer: nn.Linear,
    use: LayerUse,
    inputs: Tensor,
    epsilon: float,
    backend: str,
    tol: float,
    max_iter: int | None,
    penalize_bias: bool,
) -> LayerRow:
    """Trim one layer in place, and judge it again after the cast to its dtype.

    Parameters
    ----------
    layer : torch.nn.Linear
        Changed where the certificate is met, else left dense.
    use : LayerUse
        How the model uses it.
    inputs : torch.Tensor
        What reaches it, ``(n_samples, n_in)``.
    epsilon, backend, tol, max_iter, penalize_bias
        As in ``trim``.

    Returns
    -------
    LayerRow
        What happened.

    Raises
    ------
    ModelError
        If inputs or parameters hold NaN or Inf; names the layer.
    SolverError
        If the backend refuses the layer; names it.
    """
    try:
        problem = layers.state(layer, inputs, epsilon, use.activation, penalize_bias=penalize_bias)
        solution = solve(problem, backend, tol=tol, max_iter=max_iter, throw=False)
    except ProblemError as error:
        raise ModelError(f"layer {use.name!r}: {error}") from error
    except SolverError as error:
        raise SolverError(f"layer {use.name!r}: {error}") from error
    dense = layers.read(layer)
    layers.write(layer, solution.W)
    judged = certify(problem, layers.read(layer), solution.dual)
    met, note = judged.meets(tol), use.note
    unit = problem.norm or 1.0
    if not met:
        layers.write(layer, dense)
        note = f"kept dense: gap or violation above {tol:g} after {solution.iterations} iterations"
        if solution.least_error is not None:
            note = f"kept dense: no weights come nearer than {solution.least_error / unit:.4g}, so epsilon must be larger"
    return LayerRow(
        **_counts(use, layer),
        activation=use.activation,
        status="SOLVED" if met else "INFEASIBLE" if solution.least_error is not None else "UNMET",
        note=note,
        samples=problem.P,
        epsilon=problem.epsilon / unit,
        achieved=judged.response_error / unit,
        gap=judged.gap,
        violation=judged.violation,
        error=judged.response_error if met else 0.0,
        iterations=solution.iterations,
        seconds=solution.seconds,
    )


def _check_request(epsilon: float, scheme: str, backend: str, tol: float, max_iter: int | None) -> None:
    """Refuse settings that make no sense, before any work."""
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ProblemError(f"epsilon must be a finite number, 0 or more; got {epsilon}")
    if scheme not in SCHEMES:
        raise ProblemError(f"no scheme is called {scheme!r}; there is {', '.join(SCHEMES)}")
    if backend in missing():
        raise SolverError(f"backend {backend!r} {missing()[backend]}. Usable now: {', '.join(available())}")
    if backend not in available():
        raise SolverError(f"no backend is called {backend!r}; there are {', '.join(available())}")
    if not (math.isfinite(tol) and tol > 0):
        raise ProblemError(f"tol must be a positive number; got {tol}")
    if max_iter is not None and not (max_iter >= 1 and max_iter % 1 == 0):
        raise ProblemError(f"max_iter must be a whole number, at least 1; got {max_iter}")


def _check_layers(model: nn.Module, graph: Graph, strict: bool) -> None:
    """Refuse a model with nothing to trim, with numbers missing or, if strict, with a layer that would stay dense."""
    dense = [f"{use.name!r} ({use.note})" for use in graph.layers if use.activation is None]
    if len(dense) == len(graph.layers):
        found = f"; its layers are {', '.join(dense)}" if dense else ""
        raise ModelError(f"{type(model).__name__} has no Linear layer to trim{found}")
    if strict and dense:
        raise ModelError(f"layers that cannot be trimmed, under strict=True: {', '.join(dense)}")
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            layer, _, array = name.rpartition(".")
            raise ModelError(f"layer {layer!r}: {array} holds NaN or Inf; was the network trained to the end?")


def _counts(use: LayerUse, layer: nn.Module) -> dict[str, Any]:
    """Return the fields of a row that any layer has."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    sizes = [(0, 0) if t is None else (t.numel(), int(torch.count_nonzero(t))) for t in (weight, bias)]
    return {
        "name": use.name,
        "kind": type(layer).__name__,
        "shape": tuple(weight.shape) if weight is not None else (),
        "weights": sizes[0][0],
        "weights_kept": sizes[0][1],
        "biases": sizes[1][0],
        "biases_kept": sizes[1][1],
    }


def _dense_row(use: LayerUse, layer: nn.Module) -> LayerRow:
    return LayerRow(**_counts(use, layer), activation=None, status="DENSE", note=f"kept dense: {use.note}")


def _bound(trimmed: nn.Module, rows: list[LayerRow]) -> float:
    """Return the proved bound on the output error of a chain; a row of ones carries no error, so biases are left out."""
    weights = [layers.read(trimmed.get_submodule(row.name))[: row.shape[1]] for row in rows]
    return posterior_bound(weights, [row.error for row in rows])
