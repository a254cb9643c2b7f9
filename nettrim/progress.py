"""Progress bars on stderr that fall silent when nobody is looking (stderr is not a terminal)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def track(items: Sequence[Item] | Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` while a bar labelled ``label`` counts them on stderr.

    Parameters
    ----------
    items : iterable
        What to go through; its length is used when it has one.
    label : str
        Text left of the bar.
    total : int, optional
        Number of items, for iterables without a length.

    Yields
    ------
    object
        Each item, unchanged and in order.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    if total is None and isinstance(items, Sequence):
        total = len(items)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=total, description=label)
