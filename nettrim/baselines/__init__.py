"""Other ways to compress a network, whole and working, each as its paper has it: what Net-Trim is compared with.

A method is a file of this folder that does not begin with an underscore. It has

``run(model, data, *, ..., seed=0, folder=None) -> Baseline``
    The method. Its settings are keywords with defaults in JSON's types; ``folder`` keeps finished stages, from which a run
    that was cut off goes on. Nothing that it is given is changed.
``BEGINS``
    ``"trained"`` or ``"born"``: what ``model`` is to be, a trained network or one with its initial weights.
``NETWORK``
    The network of ``nettrim.recipes`` that the command line gives it unless told otherwise.

``nettrim baseline NAME`` and the contract tests run over whatever is found here; ``_stages``, ``_result`` and ``_door`` are
what methods share, beside ``nettrim.train``, ``nettrim.masks`` and ``nettrim.evaluate``: none brings its own copy.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

from nettrim.baselines._result import Baseline
from nettrim.errors import SettingError

__all__ = ["Baseline", "available", "method", "settings"]


def available() -> list[str]:
    """Return the names of the methods, found by looking into the folder.

    Returns
    -------
    list of str
        In alphabetical order.
    """
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def method(name: str) -> ModuleType:
    """Return a method's module.

    Parameters
    ----------
    name : str
        One of ``available()``; ``-`` may stand for ``_``.

    Returns
    -------
    module
        With ``run``, ``BEGINS`` and ``NETWORK``.

    Raises
    ------
    SettingError
        If there is no such method.
    """
    found = available()
    if name.replace("-", "_") not in found:
        raise SettingError(f"no baseline is called {name!r}; there are {', '.join(found)}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def settings(name: str) -> dict[str, Any]:
    """Return what a method may be told.

    Parameters
    ----------
    name : str
        One of ``available()``.

    Returns
    -------
    dict
        Setting to default, in the order of the signature, without ``seed`` and ``folder``.
    """
    given = inspect.signature(method(name).run).parameters.values()
    return {p.name: p.default for p in given if p.kind is p.KEYWORD_ONLY and p.name not in ("seed", "folder")}
