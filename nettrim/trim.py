"""The public door: trim a trained network layer by layer, each layer by its own certified program.

Aghasi, Abdi, Nguyen, Romberg (NIPS 2017). What is asked is in ``request``, which layers and samples in ``plan``, how layers
hang together in ``schemes``, one layer in ``retrain``, and what is said of the outcome in ``verdict``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from nettrim import budget as budgets
from nettrim import verdict
from nettrim.activations import gather
from nettrim.batchnorm import fold
from nettrim.checkpoint import Checkpoint
from nettrim.graph import Activation
from nettrim.plan import prepare
from nettrim.progress import track
from nettrim.report import TrimResult
from nettrim.request import Request
from nettrim.schemes import SCHEMES


def trim(
    model: nn.Module,
    calibration: Any,
    epsilon: float | Mapping[str, float] = 0.1,
    *,
    sparsity: float | Mapping[str, float] | None = None,
    budget: float | str | None = None,
    scheme: str = "parallel",
    gamma: float | None = None,
    kappa: float = 1.0,
    loose: bool = True,
    rounds: int = 0,
    refit: bool = False,
    penalize_bias: bool = True,
    targets: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    activations: Mapping[str, Activation] | None = None,
    unfold: bool = True,
    holdout: Any = None,
    confidence: float = 0.95,
    backend: str = "admm",
    tol: float = 1e-3,
    max_iter: int | None = None,
    n_samples: int = 10_000,
    seed: int = 0,
    n_jobs: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    strict: bool = False,
) -> TrimResult:
    """Find, for each layer, the l1-smallest weights that keep its responses to unlabelled data within epsilon.

    Linear and convolutional layers and the projections of attentions are trimmed; what follows each is read from the traced
    graph. Before ReLU, in any spelling, a layer is a ReLU program; before anything else it is treated as linear. A batch
    normalization behind a layer is part of it. Other layers with parameters stay dense and are named in the report. So does
    a layer that misses its certificate, so that what the report proves holds for the model as it is.

    Parameters
    ----------
    model : torch.nn.Module
        A trained network that maps a tensor to a tensor. Never changed; evaluated as in evaluation mode.
    calibration : Tensor, ndarray or iterable of batches
        Unlabelled inputs; what follows an input in a tuple is ignored.
    epsilon : float or mapping of str to float, optional
        Radius of a layer, relative to the Frobenius norm of its responses; one for all, or one for each pattern (see
        ``targets``), the first that names a layer.
    sparsity : float or mapping of str to float, optional
        Fraction of the weights of a layer that is to be zero, in place of ``epsilon``: its radius is searched for, to a
        quarter of a point where the layer has as many weights.
    budget : float or str, optional
        For all layers together, in place of both: the weights to keep, as a fraction below 1 or a number, or the bytes of
        compressed sparse rows, as in ``"150 kB"``. Spent where it lowers the sum of squared relative errors most.
    scheme : {"parallel", "cascade"}, optional
        Whether layers are trimmed apart, or each on the inputs that reach it through those already trimmed.
    gamma : float, optional
        Inflation rate of the cascade as published, 1 or more: layers after the first have the radius that their trained
        weights miss the original responses by, times its root. Without it they have ``epsilon`` like the first, or somewhat
        more where no weights come so near, around their weights refitted on the new inputs (``solvers.cascaded``).
    kappa : float, optional
        With ``gamma``: risk coefficient of the cascade's last layer, over 0 and at most 1.
    loose : bool, optional
        With ``gamma``: whether ceilings of the cascade that are below 0 are raised to 0, which changes no proof
        (``LayerProblem.cascade``).
    rounds : int, optional
        Reweighted solves of each layer after the first.
    refit : bool, optional
        Whether the response error is minimized on each support afterwards; the gap is that of the weights before.
    penalize_bias : bool, optional
        Whether biases are priced like weights, as the authors do, or are free.
    targets, ignore : iterable of str, optional
        Layers to trim (all) and to keep dense (none): patterns, each a qualified name or a prefix of some, the name of a
        class, ``re:`` and a regular expression, or ``*``.
    activations : mapping of str to {"relu", "linear"}, optional
        What follows layers, by name, where tracing cannot tell.
    unfold : bool, optional
        Whether folded batch normalizations are taken apart again; else an Identity stands in their place.
    holdout : Tensor, ndarray, iterable of batches, or tuple of inputs and labels, optional
        Other samples, to which errors are reported too, and with labels the accuracy before and after. What they promise of
        new samples, whatever their distribution, is in ``result.unseen``; for that they must be independent draws from it,
        with no part in training, trimming or the choice of either.
    confidence : float, optional
        Of each of these promises, over 0 and below 1.
    backend : str, optional
        One of ``solvers.available()``.
    tol : float, optional
        Of every certificate: relative gap, and violations relative to epsilon.
    max_iter : int, optional
        Iterations a layer at most.
    n_samples : int, optional
        Calibration samples used, at most, and samples of a layer's program, which for a convolution are (image, position)
        pairs and for a sequence its tokens; more of them are drawn from.
    seed : int, optional
        Seed of these draws.
    n_jobs : int, optional
        Workers of joblib in the parallel scheme; by default those of the joblib backend that the caller has made active (a
        Dask or Ray cluster), else one.
    checkpoint : path-like, optional
        Folder that every finished layer is written to before the next begins; the same call continues from there.
    strict : bool, optional
        Whether a layer that cannot be trimmed is an error.

    Returns
    -------
    TrimResult
        The new model, and a row a layer.

    Raises
    ------
    ModelError
        If the model has no layer to trim, the calibration does not fit it, a number in either is NaN or Inf, a pattern names
        no layer, the checkpoint is of another call or, with ``strict``, a layer would stay dense.
    ProblemError
        If a number is out of its range.
    SolverError
        If the backend is unknown, not installed, or refuses a layer.
    """
    request = Request(
        epsilon=epsilon,
        sparsity=sparsity,
        budget=budget,
        scheme=scheme,
        gamma=gamma,
        kappa=kappa,
        loose=loose,
        rounds=rounds,
        refit=refit,
        penalize_bias=penalize_bias,
        targets=targets,
        ignore=ignore,
        activations=activations,
        unfold=unfold,
        backend=backend,
        tol=tol,
        max_iter=max_iter,
        n_samples=n_samples,
        seed=seed,
        strict=strict,
    )
    held_out = verdict.held_out(holdout, confidence)
    plan = prepare(model, gather(calibration, n_samples, seed), request)
    if budget is not None:
        plan = budgets.allocated(plan, request)
    trimmed = fold(model, plan.folds)  # a copy, in any case
    done = Checkpoint(checkpoint, plan, request)
    outcomes = {}
    running = SCHEMES[scheme](plan, trimmed, n_jobs, done.get)
    for job, outcome in track(running, "trimming", len(plan.jobs)):
        done.put(job, outcome)
        outcomes[job.use.name] = outcome
    return verdict.result(plan, trimmed, outcomes, held_out, request)
