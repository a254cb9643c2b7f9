"""What ``trim`` is asked, checked at the door before any work."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nettrim.asked import Asked
from nettrim.errors import ModelError
from nettrim.graph import Activation, LayerUse
from nettrim.select import by_layer
from solvers import ProblemError, SolverError, available, missing

UNITS = {"b": 1, "kb": 1_000, "mb": 1_000_000, "gb": 1_000_000_000}


@dataclass(frozen=True)
class Request:
    """What ``trim`` is asked, but for model, samples, workers and checkpoint.

    Attributes
    ----------
    epsilon, sparsity, budget, scheme, gamma, kappa, loose, rounds, refit, penalize_bias
        As in ``trim``.
    targets, ignore, activations, unfold, backend, tol, max_iter, n_samples, seed, strict
        As in ``trim``.

    Raises
    ------
    ModelError
        If ``n_samples`` is less than 1.
    ProblemError
        If a number is out of its range.
    SolverError
        If the backend is unknown or not installed.
    """

    epsilon: float | Mapping[str, float] = 0.1
    sparsity: float | Mapping[str, float] | None = None
    budget: float | str | None = None
    scheme: str = "parallel"
    gamma: float | None = None
    kappa: float = 1.0
    loose: bool = True
    rounds: int = 0
    refit: bool = False
    penalize_bias: bool = True
    targets: Iterable[str] | None = None
    ignore: Iterable[str] = ()
    activations: Mapping[str, Activation] | None = None
    unfold: bool = True
    backend: str = "admm"
    tol: float = 1e-3
    max_iter: int | None = None
    n_samples: int = 10_000
    seed: int = 0
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("targets", "ignore"):  # an iterator could be read once only
            value = getattr(self, name)
            object.__setattr__(self, name, value if value is None or isinstance(value, str) else tuple(value))
        for epsilon in _values(self.epsilon):
            _check(math.isfinite(epsilon) and epsilon >= 0, "epsilon must be a finite number, 0 or more", epsilon)
        for sparsity in _values(self.sparsity):
            _check(sparsity is None or 0 <= sparsity <= 1, "sparsity, the fraction removed, must be from 0 to 1", sparsity)
        if self.budget is not None:
            amount, _ = parsed(self.budget)
            _check(amount > 0, "budget must be positive", self.budget)
            _check(self.sparsity is None, "budget and sparsity cannot both be asked; sparsity is", self.sparsity)
        _check(self.scheme in ("parallel", "cascade"), "scheme must be 'parallel' or 'cascade'", repr(self.scheme))
        rate = self.gamma
        _check(rate is None or 1 <= rate < math.inf, "gamma, the inflation rate, must be None, or 1 or more", rate)
        _check(0 < self.kappa <= 1, "kappa, the risk coefficient, must be over 0 and at most 1", self.kappa)
        _check(self.kappa == 1 or rate is not None, "kappa is of the cascade as published; give gamma too, 1.1 say", rate)
        _check(self.rounds >= 0 and self.rounds % 1 == 0, "rounds must be a whole number, 0 or more", self.rounds)
        if self.backend in missing():
            raise SolverError(f"backend {self.backend!r} {missing()[self.backend]}. Usable now: {', '.join(available())}")
        if self.backend not in available():
            raise SolverError(f"no backend is called {self.backend!r}; there are {', '.join(available())}")
        _check(math.isfinite(self.tol) and self.tol > 0, "tol must be a positive number", self.tol)
        limit = self.max_iter
        _check(limit is None or (limit >= 1 and limit % 1 == 0), "max_iter must be a whole number, at least 1", limit)
        if self.n_samples < 1:
            raise ModelError(f"n_samples must be at least 1; got {self.n_samples}")

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked, in JSON's types."""
        plain = asdict(self)
        plain |= {name: list(value) for name, value in plain.items() if isinstance(value, tuple)}
        return plain | {name: dict(value) for name, value in plain.items() if isinstance(value, Mapping)}

    def of_layers(self, uses: Iterable[LayerUse], kinds: Mapping[str, str]) -> dict[str, Asked]:
        """Return what is asked of each layer.

        Parameters
        ----------
        uses : iterable of LayerUse
            Those that are to be trimmed.
        kinds : mapping of str to str
            Name to class of each.

        Returns
        -------
        dict of Asked
            By name.

        Raises
        ------
        ModelError
            If a pattern names no layer, or a layer is named by none.
        """
        radii, shares = by_layer(self.epsilon, kinds, "epsilon"), by_layer(self.sparsity, kinds, "sparsity")
        return {
            use.name: Asked(
                activation=use.activation or "linear",
                epsilon=radii[use.name],
                sparsity=shares[use.name],
                gamma=self.gamma,
                kappa=self.kappa if use.last else 1.0,
                loose=self.loose,
                penalize_bias=self.penalize_bias,
                rounds=self.rounds,
                refit=self.refit,
                backend=self.backend,
                tol=self.tol,
                max_iter=self.max_iter,
            )
            for use in uses
        }


def parsed(budget: float | str) -> tuple[float, str]:
    """Read a budget.

    Parameters
    ----------
    budget : float or str
        A fraction of the weights, a number of them, or bytes with their unit.

    Returns
    -------
    amount : float
        Of what the unit says.
    unit : {"fraction", "weights", "bytes"}
        Of the amount.

    Raises
    ------
    ProblemError
        If it is none of these.
    """
    if isinstance(budget, str):
        read = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmg]?b)\s*", budget.lower())
        _check(read is not None, "budget must be a number of weights, a fraction, or bytes such as '150 kB'", repr(budget))
        assert read is not None
        return float(read[1]) * UNITS[read[2]], "bytes"
    _check(math.isfinite(budget), "budget must be finite", budget)
    return (float(budget), "fraction") if budget < 1 else (float(budget), "weights")


def _values(setting: Any) -> list[Any]:
    return list(setting.values()) if isinstance(setting, Mapping) else [setting]


def _check(holds: bool, wanted: str, came: Any) -> None:
    if not holds:
        raise ProblemError(f"{wanted}; got {came}")
