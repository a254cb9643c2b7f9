"""The command line: reports go to stdout, logs to stderr.

Exit codes: 0 done, 1 error, 2 usage, 3 a layer missed its certificate (the output is written all the same).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

import nettrim
from nettrim import cli_baselines, store
from nettrim import demo as demonstration
from nettrim.errors import ModelError
from nettrim.terminal import Json, Seed, built, log, show, tensors
from solvers import kernel_cache, warm_up

MISSED_CERTIFICATE = 3

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Backend = Annotated[str, typer.Option(help="Solver: see `nettrim solvers`.")]
Tol = Annotated[float, typer.Option(help="Tolerance of every certificate.")]
Samples = Annotated[int, typer.Option(help="Unlabelled samples that calibrate the trim, at most.")]

app.command("baseline")(cli_baselines.baseline)
app.command("baselines")(cli_baselines.baselines_there_are)


def main() -> None:
    """Run the command line; what the project refuses becomes one line on stderr and exit code 1."""
    try:
        app()
    except nettrim.NetTrimError as error:
        log(f"error: {error}")
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Prune trained PyTorch networks with convex programs; every layer comes with a certificate."""
    if version:
        typer.echo(nettrim.__version__)
        raise typer.Exit


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="mnist5k (needs no network) or mnist.")] = "mnist5k",
    epsilon: Annotated[list[float] | None, typer.Option(help="Relative radius; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.json and tradeoff.png.")] = Path("nettrim-demo"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Training epochs; 20, or 60 for mnist5k.")] = None,
    samples: Samples = 10_000,
    backend: Backend = "admm",
    tol: Tol = 1e-3,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train LeNet-300-100 on real digits, trim it at several radii, and show what it cost."""
    report = demonstration.run(
        data,
        epsilon or demonstration.EPSILONS,
        out,
        epochs=epochs,
        n_samples=samples,
        backend=backend,
        tol=tol,
        seed=seed,
        log=log,
    )
    log(f"wrote {out / 'report.json'} and {out / 'tradeoff.png'}")
    show(report, demonstration.table(report), as_json)
    _leave(report["solved"])


@app.command()
def trim(
    model: Annotated[str, typer.Option(help="Where the architecture is: module:factory, called without arguments.")],
    weights: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Trained weights, a safetensors file.")],
    calibration: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Unlabelled inputs, an .npy file.")],
    out: Annotated[Path, typer.Option(help="Folder for model.safetensors and report.json.")],
    epsilon: Annotated[float, typer.Option(help="Radius relative to the norm of a layer's responses.")] = 0.1,
    sparsity: Annotated[float | None, typer.Option(help="Fraction of each layer's weights to remove, instead.")] = None,
    budget: Annotated[str | None, typer.Option(help="Weights to keep in all: a fraction, a number, or '150 kB'.")] = None,
    scheme: Annotated[str, typer.Option(help="parallel or cascade.")] = "parallel",
    gamma: Annotated[float | None, typer.Option(help="Inflation rate of the cascade as published.")] = None,
    kappa: Annotated[float, typer.Option(help="Risk coefficient of its last layer.")] = 1.0,
    rounds: Annotated[int, typer.Option(help="Reweighted solves of each layer after the first.")] = 0,
    refit: Annotated[bool, typer.Option("--refit", help="Minimize the response error on each support afterwards.")] = False,
    target: Annotated[list[str] | None, typer.Option(help="Layers to trim: name, class or re:...; may be repeated.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Layers to keep dense, likewise.")] = None,
    holdout: Annotated[
        Path | None, typer.Option(exists=True, help="Other inputs to report errors on, an .npy file.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of what these promise of new inputs.")] = 0.95,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder to keep finished layers in, and to go on from.")] = None,
    samples: Samples = 10_000,
    backend: Backend = "admm",
    tol: Tol = 1e-3,
    seed: Seed = 0,
    max_iter: Annotated[int | None, typer.Option(help="Iterations a layer at most.")] = None,
    n_jobs: Annotated[int | None, typer.Option(help="Processes, in the parallel scheme.")] = None,
    strict: Annotated[bool, typer.Option(help="Fail if a layer cannot be trimmed, instead of leaving it dense.")] = False,
    as_json: Json = False,
) -> None:
    """Trim a model of yours and write it back as safetensors."""
    network = store.with_weights(built(model), tensors(weights), weights)
    result = nettrim.trim(
        network,
        _inputs(calibration),
        epsilon,
        sparsity=sparsity,
        budget=budget if budget is None else _number(budget),
        scheme=scheme,
        gamma=gamma,
        kappa=kappa,
        rounds=rounds,
        refit=refit,
        targets=target,
        ignore=ignore or (),
        holdout=holdout if holdout is None else _inputs(holdout),
        confidence=confidence,
        checkpoint=checkpoint,
        backend=backend,
        tol=tol,
        max_iter=max_iter,
        n_samples=samples,
        seed=seed,
        n_jobs=n_jobs,
        strict=strict,
    )
    result.save(out)
    log(f"wrote {out / 'model.safetensors'} and {out / 'report.json'}")
    show(store.to_json(result), result.summary(), as_json)
    _leave(result.solved)


@app.command()
def solvers(as_json: Json = False) -> None:
    """List the backends, and what those that are missing need."""
    reasons = dict.fromkeys(nettrim.available(), "") | nettrim.missing()
    made = Table("backend", "state")
    for name in sorted(reasons):
        made.add_row(name, reasons[name] or "ready")
    show({name: {"available": not why, "reason": why or None} for name, why in sorted(reasons.items())}, made, as_json)


@app.command()
def warmup(as_json: Json = False) -> None:
    """Compile, or load, ahead of time what a first solve would wait for, for every backend that is installed."""
    seconds, cache = warm_up(), kernel_cache()
    made = Table("backend", "seconds", caption=f"compiled kernels: {cache or 'not kept'}", caption_justify="left")
    for name, took in seconds.items():
        made.add_row(name, f"{took:.2f}")
    show({"seconds": seconds, "cache": cache}, made, as_json)


def _inputs(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ModelError(f"{path} is not an .npy file of numbers: {error}") from error


def _number(budget: str) -> float | str:
    """Return a budget as a number where it is one; with a unit it stays as it is."""
    try:
        return float(budget)
    except ValueError:
        return budget


def _leave(solved: bool) -> None:
    if not solved:
        log("a layer missed its certificate and was kept dense")
        raise typer.Exit(MISSED_CERTIFICATE)


if __name__ == "__main__":
    main()
