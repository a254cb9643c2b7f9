"""The demonstration: train LeNet-300-100 on real digits, trim it at several radii, and lay the outcome out in rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from nettrim import plots, store
from nettrim.data import load
from nettrim.errors import DataError
from nettrim.evaluate import accuracy
from nettrim.recipes import NETWORKS, trained
from nettrim.trim import trim

EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.5)
EPOCHS = NETWORKS["lenet300"].epochs


def run(
    data: str,
    epsilons: Sequence[float],
    out: Path,
    *,
    epochs: int | None,
    n_samples: int,
    backend: str,
    tol: float,
    seed: int,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Train, trim at each radius, and write ``report.json`` and ``tradeoff.png``.

    Parameters
    ----------
    data : str
        ``"mnist5k"`` or ``"mnist"``.
    epsilons : sequence of float
        Relative radii.
    out : pathlib.Path
        Folder for the two files, made where it is missing.
    epochs : int or None
        Training epochs; None means the recipe's.
    n_samples : int
        Unlabelled training images that calibrate the trim, at most.
    backend : str
        One of ``solvers.available()``.
    tol : float
        Of every certificate.
    seed : int
        Seed of weights, training and calibration.
    log : callable
        Takes each line of progress.

    Returns
    -------
    dict
        The report, in JSON's types.

    Raises
    ------
    NetTrimError
        As ``nettrim.data.load`` and ``nettrim.trim`` do.
    """
    if data not in EPOCHS:
        raise DataError(f"the demonstration runs on {' or '.join(EPOCHS)}; got {data!r}")
    images = load(data)
    log(f"training LeNet-300-100 on {len(images.x_train)} images of {images.name}")
    model = trained("lenet300", images, epochs=epochs, seed=seed)
    dense = accuracy(model, images.x_test, images.y_test)
    log(f"test accuracy {dense:.2%} on {len(images.x_test)} images")
    rows = []
    for epsilon in epsilons:
        result = trim(model, images.x_train, epsilon, backend=backend, tol=tol, n_samples=n_samples, seed=seed)
        rows.append(
            {
                "epsilon": epsilon,
                "kept": result.kept,
                "compression": result.compression,
                "accuracy": accuracy(result.model, images.x_test, images.y_test),
                "solved": result.solved,
                "worst_gap": result.worst_gap,
                "worst_violation": result.worst_violation,
                "seconds": result.seconds,
                "layers": store.to_json(result)["layers"],
            }
        )
        log(f"epsilon {epsilon:g}: kept {result.kept:.2%}, test accuracy {rows[-1]['accuracy']:.2%}")
    report = {
        "schema_version": store.SCHEMA_VERSION,
        "versions": store.versions(),
        "data": images.name,
        "network": "LeNet-300-100",
        "settings": {
            "epochs": epochs or EPOCHS[images.name],
            "n_samples": min(n_samples, len(images.x_train)),
            "backend": backend,
            "tol": tol,
            "seed": seed,
        },
        "accuracy": dense,
        "solved": all(row["solved"] for row in rows),
        "rows": rows,
    }
    out.mkdir(parents=True, exist_ok=True)
    store.write_json(report, out / "report.json")
    used = report["settings"]["n_samples"]
    plots.tradeoff(rows, dense, out / "tradeoff.png", f"LeNet-300-100 on {images.name}, {used} unlabelled images")
    return report


def table(report: dict[str, Any]) -> Table:
    """Lay a report out as a table.

    Parameters
    ----------
    report : dict
        As ``run`` returns it.

    Returns
    -------
    rich.table.Table
        A row a radius.
    """
    made = Table(title=f"{report['network']} on {report['data']}: test accuracy {report['accuracy']:.2%} before trimming")
    for heading in ("epsilon", "kept", "compression", "accuracy", "change", "worst gap", "worst violation", "seconds"):
        made.add_column(heading, justify="right")
    made.add_column("certificates")
    for row in report["rows"]:
        made.add_row(
            f"{row['epsilon']:g}",
            f"{row['kept']:.2%}",
            f"{row['compression']:.2f}x",
            f"{row['accuracy']:.2%}",
            f"{100 * (row['accuracy'] - report['accuracy']):+.2f}",
            f"{row['worst_gap']:.1e}",
            f"{row['worst_violation']:.1e}",
            f"{row['seconds']:.1f}",
            "all met" if row["solved"] else "MISSED",
        )
    return made
