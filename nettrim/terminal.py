"""What the commands share: reports go to stdout, as a table or as JSON, and what happens on the way to stderr."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nettrim.errors import ModelError

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout instead of a table.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


def built(where: str) -> nn.Module:
    """Return what ``module:factory`` makes.

    Parameters
    ----------
    where : str
        A module, also one beside the user, and what to call in it without arguments.

    Returns
    -------
    torch.nn.Module
        The network.

    Raises
    ------
    typer.BadParameter
        If it cannot be imported.
    ModelError
        If it makes no network.
    """
    module, _, factory = where.partition(":")
    if not module or not factory:
        raise typer.BadParameter(f"{where!r} is not module:factory, for example nettrim.models:lenet300")
    sys.path.insert(0, "")  # a module beside the user, as python -m finds it
    try:
        made = getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"{where!r} cannot be imported: {error}") from error
    finally:
        sys.path.remove("")
    network = made()
    if not isinstance(network, nn.Module):
        raise ModelError(f"{where} made a {type(network).__name__}, not a torch.nn.Module")
    return network


def tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Parameters
    ----------
    path : pathlib.Path
        Where it is.

    Returns
    -------
    dict
        Name to tensor.

    Raises
    ------
    ModelError
        If it is no such file.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is not a safetensors file: {error}") from error


def show(report: Any, made: Any, as_json: bool) -> None:
    """Print a report on stdout.

    Parameters
    ----------
    report : dict
        In JSON's types.
    made : object
        The same for a reader: what rich prints.
    as_json : bool
        Which of the two.
    """
    if as_json:
        typer.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        console = Console()
        console.width = console.width if console.is_terminal else 140  # a file or a pipe has no width to respect
        console.print(made)


def log(line: str) -> None:
    """Print a line on stderr.

    Parameters
    ----------
    line : str
        What to say.
    """
    typer.echo(line, err=True)
