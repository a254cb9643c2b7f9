"""The commands of the baselines: one runs a method by its name, the other lists what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nettrim import baselines, recipes, store
from nettrim import data as datasets
from nettrim.terminal import Json, Seed, built, log, show, tensors


def baseline(
    name: Annotated[str, typer.Argument(help="A method: see `nettrim baselines`.")],
    data: Annotated[str, typer.Option(help="mnist5k (needs no network) or mnist.")] = "mnist5k",
    network: Annotated[str | None, typer.Option(help="lenet300, lenet5, or module:factory; else the method's own.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of the method; may be repeated.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for stages, network, masks and report.json.")] = Path("nettrim-baseline"),
    weights: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Weights of the network, a safetensors file."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of training the dense network; else its recipe's.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compress a network by another method of the literature; a run that was cut off goes on where it was."""
    method = baselines.method(name)
    if epochs is not None and (weights is not None or method.BEGINS != "trained"):
        why = "the network of --weights is not trained" if weights is not None else f"{name} trains its network itself"
        raise typer.BadParameter(f"--epochs is of training a dense network, and {why}; --set epochs=N is of the method")
    chosen = _settings(name, setting or [])
    images, place = datasets.load(data), network or method.NETWORK
    model = built(place) if ":" in place else recipes.born(place, seed=seed)
    if weights is not None:
        model = store.with_weights(model, tensors(weights), weights)
    elif method.BEGINS == "trained":
        log(f"{place} trained on {len(images.x_train)} images of {images.name}, kept in {out / 'dense'}")
        model = recipes.trained(place, images, model=model, epochs=epochs, seed=seed, folder=out / "dense")
    result = method.run(model, images, **chosen, seed=seed, folder=out / "stages")
    result.save(out)
    log(f"wrote {out / 'model.safetensors'}, {out / 'masks.safetensors'} and {out / 'report.json'}")
    show(result.to_json(), result.summary(), as_json)


def baselines_there_are(as_json: Json = False) -> None:
    """List the other methods, what each begins with, and its settings."""
    made, report = Table("method", "begins with", "settings", "what"), {}
    for name in baselines.available():
        method, settings = baselines.method(name), baselines.settings(name)
        listed = ", ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        made.add_row(name, f"{method.NETWORK}, {method.BEGINS}", listed, (method.__doc__ or "").splitlines()[0])
        report[name] = {"network": method.NETWORK, "begins": method.BEGINS, "settings": settings}
    show(report, made, as_json)


def _settings(name: str, given: list[str]) -> dict[str, Any]:
    """Return the settings of a method from NAME=VALUE; a value is JSON where it can be, and else text."""
    known, found = baselines.settings(name), {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or key not in known:
            raise typer.BadParameter(f"{each!r} is no setting of {name}; there are {', '.join(f'{k}=...' for k in known)}")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found
