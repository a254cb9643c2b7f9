"""Which layers a pattern names: a qualified name, the name of a class, or ``re:`` and a regular expression on names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nettrim.errors import ModelError

ALL = "*"


def matching(pattern: str, kinds: Mapping[str, str]) -> set[str]:
    """Return the layers that a pattern names.

    Parameters
    ----------
    pattern : str
        A qualified name, or one that is a prefix of names up to a dot; a class; ``re:`` and what is to match somewhere in a
        name; or ``*`` for all.
    kinds : mapping of str to str
        Name to class of each layer.

    Returns
    -------
    set of str
        Their names, at least one.

    Raises
    ------
    ModelError
        If it names none, or is no regular expression.
    """
    if pattern == ALL:
        found = set(kinds)
    elif pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error as error:
            raise ModelError(f"{pattern!r} is not a regular expression: {error}") from error
        found = {name for name in kinds if expression.search(name)}
    else:
        found = {name for name, kind in kinds.items() if pattern in (name, kind) or name.startswith(f"{pattern}.")}
    if not found:
        layers = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ModelError(f"{pattern!r} names no layer; there are {layers}")
    return found


def chosen(kinds: Mapping[str, str], targets: Iterable[str] | None, ignore: Iterable[str]) -> set[str]:
    """Return the layers that are targeted and not ignored.

    Parameters
    ----------
    kinds : mapping of str to str
        Name to class of each layer.
    targets : iterable of str or None
        Patterns; None for all layers.
    ignore : iterable of str
        Patterns.

    Returns
    -------
    set of str
        Their names.

    Raises
    ------
    ModelError
        If a pattern names no layer.
    """
    wanted = set(kinds) if targets is None else set().union(*(matching(pattern, kinds) for pattern in _listed(targets)))
    return wanted.difference(*(matching(pattern, kinds) for pattern in _listed(ignore)))


def by_layer(value: Any, kinds: Mapping[str, str], what: str) -> dict[str, Any]:
    """Spread a setting over layers.

    Parameters
    ----------
    value : object or mapping of str to object
        One for all, or one for each pattern, of which the first that names a layer counts.
    kinds : mapping of str to str
        Name to class of each layer.
    what : str
        Name of the setting, for errors.

    Returns
    -------
    dict
        The setting of each layer.

    Raises
    ------
    ModelError
        If a pattern names no layer, or a layer is named by none.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(kinds, value)
    spread: dict[str, Any] = {}
    for pattern, each in value.items():
        spread = dict.fromkeys(matching(pattern, kinds), each) | spread
    left = [name for name in kinds if name not in spread]
    if left:
        raise ModelError(f"{what} says nothing of {', '.join(left)}; add {ALL!r} for all others, or ignore them")
    return spread


def _listed(patterns: Iterable[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)
