"""What a trim gives back: the new model, a row for each layer, and what is proved about the network's output."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, field, fields
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from nettrim.unseen import Unseen
from theory import Check


@dataclass(frozen=True)
class LayerRow:
    """What happened to one layer; every number in float64, after the weights were cast to the model's dtype.

    Attributes
    ----------
    name, kind : str
        Qualified name and class of the module (``.q``, ``.k``, ``.v``, ``.out`` of an attention); with ``+`` the batch
        normalization that was folded into it.
    shape : tuple of int
        Shape of its weight, ``(n_out, n_in)`` of a Linear.
    groups : int
        Programs that it falls into.
    activation : str or None
        ``"relu"`` or ``"linear"``, as its program was stated; None where it was not trimmed.
    status : str
        ``"SOLVED"``, ``"UNMET"`` (the certificate was missed, so the layer was kept dense), ``"INFEASIBLE"`` (proved to have
        no solution, so kept dense too) or ``"DENSE"`` (not tried).
    note : str
        Why, where there is something to say.
    weights, weights_kept : int
        Entries of the weight (the bias apart), and those that are not zero.
    biases, biases_kept : int
        The same of the bias.
    samples : int
        Samples that its program saw: of a convolution (image, position) pairs, of a sequence tokens.
    sparsity : float or None
        Fraction of its weights that was to be zero, as asked or as its share of a budget; None where epsilon was asked.
    epsilon, achieved : float or None
        Radius asked, and response error reached, both relative to ``||Y||_F``. Where Y is 0, absolute.
    holdout : float or None
        The same error on held-out samples; None where there are none.
    gap, ball_violation, ceiling_violation : float or None
        Duality gap, and violations over epsilon, of the weights that the solver gave; of the worst group.
    error : float
        ``||ReLU(W'X) - Y||_F`` on the inputs that its scheme means, absolute; 0 of a dense layer.
    iterations, solves : int
        The backend's count, and how many programs were solved: groups, reweighted rounds and a search for a radius each add.
    seconds : float
        Wall time of the solves.
    memory : int or None
        Largest resident set of the process meanwhile, in bytes; None where the system does not tell.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    activation: str | None
    status: str
    note: str = ""
    groups: int = 1
    weights: int = 0
    weights_kept: int = 0
    biases: int = 0
    biases_kept: int = 0
    samples: int = 0
    sparsity: float | None = None
    epsilon: float | None = None
    achieved: float | None = None
    holdout: float | None = None
    gap: float | None = None
    ball_violation: float | None = None
    ceiling_violation: float | None = None
    error: float = 0.0
    iterations: int = 0
    solves: int = 0
    seconds: float = 0.0
    memory: int | None = None

    @property
    def violation(self) -> float | None:
        """The larger of the two violations."""
        if self.ball_violation is None or self.ceiling_violation is None:
            return None
        return max(self.ball_violation, self.ceiling_violation)


class Checks(tuple[Check, ...]):
    """Checks of a trimmed model: a tuple that prints as a table."""

    @property
    def hold(self) -> bool:
        """Whether every check holds; true too where nothing was promised, so look at their number."""
        return all(check.holds for check in self)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the rows in JSON's types.

        Returns
        -------
        list of dict
            As ``Check.to_json``.
        """
        return [check.to_json() for check in self]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Checks:
        """Read rows back; what is not finite is null in JSON.

        Parameters
        ----------
        rows : list of dict
            As ``to_json`` gives them.

        Returns
        -------
        Checks
            The same, but for a measured value that was infinite, which is not a number now and does not hold either.
        """
        kept = ({field.name: row[field.name] for field in fields(Check)} for row in rows)
        absent = {"measured": math.nan, "promised": math.inf, "slack": math.inf}
        return cls(Check(**{name: absent[name] if value is None else value for name, value in row.items()}) for row in kept)

    def __rich__(self) -> Table:
        """Return the table that ``rich.print`` shows."""
        table = Table(title=f"{sum(check.holds for check in self)} of {len(self)} statements hold")
        for heading in ("what", "source"):
            table.add_column(heading, overflow="fold")
        for heading in ("measured", "promised", "tightness", "slack"):
            table.add_column(heading, justify="right")
        table.add_column("holds")
        for check in self:
            numbers = (f"{check.measured:.4g}", f"{check.promised:.4g}", f"{check.tightness:.3f}", f"{check.slack:.1e}")
            table.add_row(check.name, check.source, *numbers, "yes" if check.holds else "NO")
        return table

    def __str__(self) -> str:
        """Return the table as text."""
        console = Console(file=io.StringIO(), width=140)
        console.print(self)
        return console.file.getvalue()  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class TrimResult:
    """A trimmed model and its report.

    Attributes
    ----------
    model : torch.nn.Module
        A new model with exact zeros, on the device and in the dtype of the one given.
    layers : tuple of LayerRow
        One for each layer with parameters, in the order in which they run.
    bound : float or None
        Proved bound on ``||Yhat - Y||_F`` at the network's output over the calibration samples: ``theory.posterior_bound``
        in the parallel scheme, the error of the last program in the cascade. None where the network is not a chain of
        Linear, ReLU, Dropout, Flatten and folded normalizations, or a program saw a part of the samples only.
    output_error, output_norm : float
        ``||Yhat - Y||_F`` as measured there, and ``||Y||_F``.
    holdout_error : float or None
        ``||Yhat - Y||_F / ||Y||_F`` on held-out samples.
    unseen : Unseen or None
        What these promise of new samples, whatever their distribution.
    accuracy, accuracy_dense : float or None
        Share of held-out samples whose largest output is at their label, after and before.
    parameters, parameters_kept : int
        Entries of all parameters of the model, and those that are not zero.
    settings : dict
        What ``trim`` was asked, in JSON's types.
    checks : Checks
        As ``check_theory`` returns them.
    """

    model: nn.Module
    layers: tuple[LayerRow, ...]
    bound: float | None
    output_error: float
    output_norm: float
    parameters: int
    parameters_kept: int
    holdout_error: float | None = None
    unseen: Unseen | None = None
    accuracy: float | None = None
    accuracy_dense: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    checks: Checks = Checks()  # noqa: RUF009  (it cannot change)

    @property
    def solved(self) -> bool:
        """Whether every layer that was tried met its certificate."""
        return all(row.status in ("SOLVED", "DENSE") for row in self.layers)

    @property
    def kept(self) -> float:
        """Fraction of the prunable weights (biases and layers of other kinds apart) that are not zero."""
        prunable = [row for row in self.layers if row.activation is not None]
        return sum(row.weights_kept for row in prunable) / max(sum(row.weights for row in prunable), 1)

    @property
    def compression(self) -> float:
        """ShrinkBench's compression ratio: all parameters over those that are not zero."""
        return self.parameters / max(self.parameters_kept, 1)

    @property
    def worst_gap(self) -> float:
        """The largest duality gap of a trimmed layer, in absolute value."""
        return max((abs(row.gap) for row in self.layers if row.gap is not None), default=0.0)

    @property
    def worst_violation(self) -> float:
        """The largest violation of a trimmed layer, relative to its epsilon."""
        return max((row.violation for row in self.layers if row.violation is not None), default=0.0)

    @property
    def seconds(self) -> float:
        """Seconds that the solvers took."""
        return sum(row.seconds for row in self.layers)

    def check_theory(self) -> Checks:
        """Return every statement of the papers that applies to this trim beside what was measured.

        Proposition 1 for each layer whose ceilings are 0, and for a chain of layers Theorem 1 or 2 for the output, on the
        calibration samples.

        Returns
        -------
        Checks
            A tuple of ``theory.Check`` that prints as a table; ``to_json()`` gives its rows.
        """
        return self.checks

    def summary(self) -> Table:
        """Return the report as a rich table: ``rich.print(result.summary())``, or just ``print(result)``.

        Returns
        -------
        rich.table.Table
            A row a layer, totals in the title and the caption; beside what is kept, in parentheses, what was to be.
        """
        title = f"kept {self.kept:.2%} of the prunable weights, {self.compression:.2f}x fewer parameters"
        relative = self.output_error / self.output_norm if self.output_norm else 0.0
        caption = f"output error {relative:.4f} relative ({self.output_error:.4g})"
        if self.bound is not None:
            caption += f", proved at most {self.bound:.4g}"
        if self.holdout_error is not None:
            caption += f"; held out {self.holdout_error:.4f}"
        if self.accuracy is not None and self.accuracy_dense is not None:
            caption += f", accuracy {self.accuracy_dense:.2%} before and {self.accuracy:.2%} after"
        if self.unseen is not None:
            caption += f"\n{self.unseen}"
        table = Table(title=title, caption=caption)
        table.add_column("layer", overflow="fold")
        table.add_column("shape")
        table.add_column("as")
        for heading in ("samples", "kept", "epsilon", "achieved", "held out", "gap", "violation", "iterations", "seconds"):
            table.add_column(heading, justify="right")
        table.add_column("status", overflow="fold")
        for row in self.layers:
            table.add_row(
                row.name,
                "x".join(map(str, row.shape)),
                row.activation or "-",
                str(row.samples or "-"),
                f"{row.weights_kept / max(row.weights, 1):.2%}"
                + ("" if row.sparsity is None else f" ({1 - row.sparsity:.2%})"),
                *(_number(value) for value in (row.epsilon, row.achieved, row.holdout)),
                *("-" if value is None else f"{value:.1e}" for value in (row.gap, row.violation)),
                str(row.iterations),
                f"{row.seconds:.2f}",
                f"{row.status}: {row.note}" if row.note else row.status,
            )
        return table

    def __str__(self) -> str:
        """Return the summary as text."""
        console = Console(file=io.StringIO(), width=140)
        console.print(self.summary())
        return console.file.getvalue()  # type: ignore[attr-defined]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``model.safetensors`` and ``report.json``; ``nettrim.load`` reads them back.

        Parameters
        ----------
        folder : path-like
            Made where it is missing; a result saved there before is replaced.
        """
        from nettrim import store

        store.save(self, folder)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
