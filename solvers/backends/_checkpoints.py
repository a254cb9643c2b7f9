"""When an iterative backend has itself judged: a geometric series, so that judging costs a bounded share of the work."""

from __future__ import annotations

from collections.abc import Iterator


def checkpoints(first: int = 20, growth: float = 1.15, step: int = 5) -> Iterator[int]:
    """Yield iteration numbers, each ``growth`` times the one before and at least ``step`` later.

    Parameters
    ----------
    first : int, optional
        The first of them.
    growth : float, optional
        Ratio of neighbors.
    step : int, optional
        Least distance of neighbors.

    Yields
    ------
    int
        The next iteration to judge.
    """
    at = first
    while True:
        yield at
        at = max(at + step, int(at * growth))
