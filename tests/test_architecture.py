"""The house: imports run one way, importing ``solvers`` is light, and every public docstring tells the signature.

Everything is discovered, nothing is listed: a new module or function is held to the same rules by being there.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import solvers

ROOT = Path(solvers.__file__).parent.parent
PACKAGES = ("solvers", "theory", "nettrim")
OUTSIDE = {"tests", "benchmarks", "notebooks"}  # they import the packages, no package imports them
MAY_NOT_IMPORT = {
    "solvers": {"theory", "nettrim", *OUTSIDE},
    "theory": {"nettrim", *OUTSIDE},
    "nettrim": OUTSIDE,
}
HEAVY = ("torch", "cvxpy", "osqp", "numba", "scipy")


def modules(package):
    """Return the names of a package and of everything in it, without importing anything."""

    def walk(folder, prefix):
        for info in pkgutil.iter_modules([str(folder)]):
            yield prefix + info.name
            if info.ispkg:
                yield from walk(folder / info.name, f"{prefix}{info.name}.")

    return [package, *walk(ROOT / package, f"{package}.")]


MODULES = [name for package in PACKAGES for name in modules(package)]
BACKENDS = [name for name in MODULES if name.startswith("solvers.backends.") and not name.split(".")[-1].startswith("_")]


def source(module):
    """Return the tree of a module's text, or None for a folder without ``__init__.py``."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text()) if path.is_file() else None


def imported(tree, package):
    """Yield the top-level name of every import, also of those inside functions and of ``import_module("...")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield package if node.level else node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value.split(".")[0]


def test_the_walk_finds_the_house():
    assert {
        "solvers.problem",
        "solvers.backends.admm",
        "solvers.backends._kernels",
        "theory.bounds",
        "nettrim.train",
    } <= set(MODULES)
    assert {"solvers.backends.admm", "solvers.backends.cvxpy_", "solvers.backends.reference"} <= set(BACKENDS)


def test_every_form_of_import_is_seen():
    text = "import a.b\nfrom c.d import e\nfrom . import f\ndef g():\n    import h, i\nimportlib.import_module('j.k')"
    assert sorted(imported(ast.parse(text), "here")) == ["a", "c", "h", "here", "i", "j"]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    package = module.split(".")[0]
    tree = source(module)
    found = set(imported(tree, package)) if tree else set()
    assert not found & MAY_NOT_IMPORT[package]


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("nettrim")])
def test_third_parties_are_few(module):
    tree = source(module)
    found = set(imported(tree, module)) - set(sys.stdlib_module_names) - {"solvers", "theory"} if tree else set()
    allowed = {"numpy"}
    if module in BACKENDS:
        allowed |= set(importlib.import_module(module).REQUIRES)  # what it needs is what it says it needs
    elif module.startswith("solvers.backends._"):
        # the helpers of the backends, which load them on use
        allowed |= {"numba", "osqp", "scipy", "threadpoolctl", "torch"}
    elif module.startswith("theory"):
        allowed |= {"scipy"}
    assert found <= allowed


def loaded_after(statement):
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_solvers_is_light():
    loaded = loaded_after("import solvers\nfrom solvers import *")
    assert {"solvers.registry", "numpy"} <= loaded and not loaded & set(HEAVY)


def test_import_theory_is_light():
    assert not loaded_after("import theory") & (set(HEAVY) - {"scipy"})


def test_looking_for_backends_loads_none_of_their_libraries():
    loaded = loaded_after("import solvers\nsolvers.available(), solvers.missing()")
    assert set(BACKENDS) <= loaded and not loaded & set(HEAVY)


@pytest.mark.parametrize("module", BACKENDS)
def test_a_backend_imports_its_library_on_use_only(module):
    loaded = loaded_after(f"import {module}")
    requires = set(importlib.import_module(module).REQUIRES)
    assert module in loaded and requires and not loaded & (requires | set(HEAVY))


@pytest.mark.parametrize("module", BACKENDS)
def test_a_backend_keeps_the_contract(module):
    backend = importlib.import_module(module)
    assert isinstance(backend.REQUIRES, tuple) and all(isinstance(name, str) for name in backend.REQUIRES)
    assert isinstance(backend.INSTALL, str) and isinstance(backend.TAKES_START, bool)
    assert list(inspect.signature(backend.warm_up).parameters) == []
    solve, refuses = (inspect.signature(f).parameters for f in (backend.solve, backend.refuses))
    assert list(solve)[:4] == ["problem", "judge", "max_iter", "start"] and next(iter(refuses)) == "problem"
    # The options of both, with the same defaults: the registry hands the same ones to both.
    options = [(name, parameter.default) for name, parameter in list(solve.items())[4:]]
    assert options == [(name, parameter.default) for name, parameter in list(refuses.items())[1:]]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in list(solve.values())[1:])


# --- docstrings


def section(doc, *titles):
    """Return the names that a section of a NumPy style docstring documents, in order; None without such a section."""
    lines = inspect.cleandoc(doc or "").splitlines()
    underlined = [i for i in range(len(lines) - 1) if lines[i].strip() and re.fullmatch(r"-{3,}", lines[i + 1])]
    for at, begin in enumerate(underlined):
        if lines[begin] in titles:
            end = underlined[at + 1] if at + 1 < len(underlined) else len(lines)
            entries = [line for line in lines[begin + 2 : end] if line.strip() and not line[0].isspace()]
            return [name.strip() for entry in entries for name in entry.split(" : ")[0].split(",")]
    return None


def parameters(function):
    """Return the names of a function's parameters as a docstring writes them, without self and cls."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in found if p.name not in ("self", "cls")]


def explained_in_place(function):
    """Return the parameters whose annotation carries a help text, as those of a command of the command line do."""
    hints = typing.get_type_hints(function, include_extras=True).items()
    return {name for name, hint in hints if any(getattr(note, "help", "") for note in getattr(hint, "__metadata__", ()))}


def public(module):
    """Yield (name, function or dataclass) of all that a module defines and does not hide."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            if dataclasses.is_dataclass(thing):
                yield name, thing
            for member, value in vars(thing).items():
                function = getattr(value, "__func__", value)  # of class methods and static methods
                if inspect.isfunction(function) and (not member.startswith("_") or member == "__call__"):
                    yield f"{name}.{member}", function
        elif inspect.isfunction(thing):
            yield name, thing


PUBLIC = [name for name in MODULES if not any(part.startswith("_") for part in name.split("."))]


@pytest.mark.parametrize("module", PUBLIC)
def test_docstrings_document_exactly_the_parameters(module):
    wrong = {}
    for name, thing in public(importlib.import_module(module)):
        if inspect.isclass(thing):
            # Fields may be grouped by what they mean: their order in the class is not what a reader looks for.
            documented = sorted(section(thing.__doc__, "Parameters", "Attributes") or [])
            expected = sorted(field.name for field in dataclasses.fields(thing) if not field.name.startswith("_"))
        else:
            documented, expected = section(thing.__doc__, "Parameters") or [], parameters(thing)
            if not documented:
                expected = [name for name in expected if name not in explained_in_place(thing)]
        if not thing.__doc__ or documented != expected:
            wrong[name] = f"documents {documented}, takes {expected}"
    assert not wrong


def test_the_check_of_docstrings_finds_what_is_wrong():
    def function(a, b, *rest, c=1, **more):
        """Do nothing.

        Parameters
        ----------
        a, b : int
            Two: numbers.
        *rest
            Others.
        c : int, optional
            One.

            More on it.
        **more
            The rest.

        Returns
        -------
        None
            Nothing.
        """

    assert section(function.__doc__, "Parameters") == parameters(function) == ["a", "b", "*rest", "c", "**more"]
    assert section(function.__doc__, "Returns") == ["None"]
    assert section("Do nothing.", "Parameters") is None
    assert sum(len(list(public(importlib.import_module(name)))) for name in PUBLIC if name.startswith("solvers")) > 30
