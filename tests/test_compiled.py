"""The cache of compiled kernels: no folder for it, damage in it, and many who fill it at once."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import solvers

pytest.importorskip("numba")

from solvers.backends import _compiled

ROOT = Path(solvers.__file__).parent.parent
KERNEL = """
from solvers.backends._compiled import compiled

@compiled()
def double(a):
    return 2 * a
"""


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Return ``fresh(text)``, the kernel of a file as a process that has just begun sees it, its cache beside it."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")
    _compiled._warn.cache_clear()

    def fresh(text=KERNEL):
        path = tmp_path / "mine.py"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert Path(module.double.stats.cache_path).parent == tmp_path
        return module.double

    yield fresh
    _compiled._warn.cache_clear()


def files(kernel, ending):
    return sorted(Path(kernel.stats.cache_path).glob(f"*.{ending}"))


def hits(kernel):
    return sum(kernel.stats.cache_hits.values())


def test_a_kernel_is_loaded_by_the_next_process(fresh):
    first = fresh()
    assert first(3) == 6 and hits(first) == 0
    second = fresh()
    assert second(4) == 8 and hits(second) == 1


def test_a_kernel_that_was_edited_is_compiled_again(fresh):
    assert fresh()(3) == 6
    edited = fresh(KERNEL.replace("2 * a", "3 * a"))  # a constant: the same code to Python, the same size on disk
    assert edited(3) == 9 and hits(edited) == 0


def test_a_kernel_whose_helper_was_edited_is_compiled_again(fresh, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = KERNEL.replace("@compiled()", "import helper\n\n@compiled(helper)").replace("2 * a", "helper.times(a)")
    for factor in (2, 30):  # of another size: two edits may have the same date
        (tmp_path / "helper.py").write_text(KERNEL.replace("double", "times").replace("2 * a", f"{factor} * a"))
        monkeypatch.delitem(sys.modules, "helper", raising=False)
        importlib.invalidate_caches()
        kernel = fresh(text)
        assert kernel(3) == 3 * factor and hits(kernel) == 0


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\0" + data])
def test_a_damaged_file_is_named_and_replaced(fresh, ending, damage):
    first = fresh()
    assert first(3) == 6
    (path,) = files(first, ending)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="is damaged and is compiled again.*set NUMBA_CACHE_DIR"):
        assert fresh()(3) == 6
    healed = fresh()
    assert healed(3) == 6 and hits(healed) == 1


def test_the_code_of_another_signature_is_not_run(fresh):
    first = fresh()
    assert first(3) == 6 and first(0.25) == 0.5
    whole, real = files(first, "nbc")
    shutil.copy(whole, real)  # what a race of two processes leaves
    second = fresh()
    assert second(0.25) == 0.5 and hits(second) == 0
    healed = fresh()
    assert healed(0.25) == 0.5 and healed(3) == 6 and hits(healed) == 2


def test_a_cache_that_cannot_be_written_any_more_costs_a_warning(fresh):
    kernel = fresh()
    folder = Path(kernel.stats.cache_path)
    folder.rmdir()
    folder.write_text("a file, below which even root can write nothing")
    with pytest.warns(RuntimeWarning, match="cannot be written to .* set NUMBA_CACHE_DIR"):
        assert kernel(3) == 6
    assert kernel(0.25) == 0.5  # no second warning, which would be an error here


NOWHERE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from solvers.backends import _kernels
import numpy as np
from solvers import kernel_cache
print(_kernels.__file__)
print(kernel_cache(), _kernels.mirror(np.array([[1.0, 2.0], [0.0, 3.0]])).tolist())
print(*(f"{w.category.__name__}: {w.message}" for w in caught), sep="\\n")
"""


def test_without_any_folder_the_kernels_work_and_one_warning_says_what_to_do(tmp_path):
    shutil.copytree(ROOT / "solvers", tmp_path / "solvers", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "solvers" / "backends" / "__pycache__").touch()  # a file: permissions do not bind root, this does
    below = str(tmp_path / "solvers" / "backends" / "__pycache__" / "folder")
    places = {"HOME": below, "XDG_CACHE_HOME": below, "LOCALAPPDATA": below, "NUMBA_CACHE_DIR": below}
    environment = os.environ | places | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", NOWHERE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    where, answer, *warned = done.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path) and answer == "None [[1.0, 2.0], [2.0, 3.0]]"
    assert len(warned) == 1
    assert warned[0].startswith("RuntimeWarning: numba finds no folder") and "set NUMBA_CACHE_DIR" in warned[0]


def test_without_compilation_there_is_no_cache():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:] == ["None [[1.0, 2.0], [2.0, 3.0]]", ""]


TOGETHER = """
import hashlib, sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
import numpy as np
from solvers import LayerProblem, solve
from solvers.backends import admm

threads, few = int(sys.argv[1]), sys.argv[2] == "few"
if few:
    admm.warm_up = lambda: None  # so that the solves compile what they need as they need it, and no more
ready = Barrier(threads)

def work(_):
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((60, 400)), rng.standard_normal((60, 40))
    ready.wait()
    kinds = [(LayerProblem.parallel, 1e-3)] if few else [(LayerProblem.parallel, 1e-3), (LayerProblem.linear, 1e-6)] * 2
    answers = [solve(make(X, W, 0.1), "admm", tol=tol) for make, tol in kinds]
    return hashlib.sha256(b"".join(a.W.tobytes() + a.dual.tobytes() for a in answers)).hexdigest()

with ThreadPoolExecutor(threads) as pool:
    print(*pool.map(work, range(threads)))
"""


@pytest.fixture
def crowd():
    """Return ``crowd(processes, threads, size, **environment)``: what the threads of all of them found, run at once."""

    def run(processes, threads, size, **environment):
        command = [sys.executable, "-c", TOGETHER, str(threads), size]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        environment = os.environ | {"PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "2"} | environment
        found = []
        with contextlib.ExitStack() as running:
            start = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in range(processes)]
            begun = [running.enter_context(process) for process in start]
            for process in begun:
                out, error = process.communicate(timeout=300)
                assert process.returncode == 0, error
                found += out.split()
        return found

    return run


def test_many_who_compile_at_once_get_what_one_alone_gets(tmp_path, crowd):
    found = crowd(4, 2, "few", NUMBA_CACHE_DIR=str(tmp_path))
    assert len(found) == 8 and set(found) == set(crowd(1, 1, "few", NUMBA_CACHE_DIR=str(tmp_path)))


def test_threads_of_one_process_get_what_one_alone_gets(crowd):
    found = crowd(1, 4, "more")
    assert len(found) == 4 and set(found) == set(crowd(1, 1, "more"))
