"""numba's compiler with a cache on disk that may fail: the kernel is then compiled anew, and a warning says so.

``numba.njit(cache=True)`` raises where no folder can be written, where a file of the cache is damaged and where the disk is
full. See "Notes on Caching" in numba's documentation.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core.caching import FunctionCache


class KernelCache(FunctionCache):  # type: ignore[misc]  # numba is not typed
    """numba's cache of one function; what cannot be read is compiled and written again.

    Parameters
    ----------
    function : callable
        The function.
    uses : sequence of module
        Whose compiled functions it calls: these are part of what is kept, and numba looks at the function's own file only.
    """

    def __init__(self, function: Any, uses: Sequence[ModuleType] = ()) -> None:
        super().__init__(function)
        files = [Path(str(module.__file__)).stat() for module in uses]
        self._cache_file._source_stamp = (self._cache_file._source_stamp, *((file.st_mtime, file.st_size) for file in files))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, None where there is nothing fit for use."""
        try:
            found = super().load_overload(sig, target_context)
        except OSError:  # of the folder: ``save_overload`` will tell
            return None
        except Exception:  # damaged bytes may raise anything as they are unpickled
            _warn(f"a compiled kernel in {self.cache_path} is damaged and is compiled again; if this comes back")
            with contextlib.suppress(OSError):
                self.flush()
            return None
        # Two processes that begin with an empty cache may give two signatures the same file: the later one wins.
        return found if found is not None and found.signature.args == tuple(sig) else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write what was compiled for a signature, if it can be written."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _warn(f"compiled kernels cannot be written to {self.cache_path} ({error.strerror}): to keep them")


def compiled(*uses: ModuleType, **options: Any) -> Callable[[Any], Any]:
    """Return ``numba.njit(cache=True, **options)``, except that it never fails for the cache.

    Parameters
    ----------
    *uses : module
        Whose compiled functions are called.
    **options
        Of ``numba.njit``. Callers write them in the file of their kernels, by whose date numba tells a cache that is out
        of date.

    Returns
    -------
    callable
        A decorator.
    """

    def decorate(function: Any) -> Any:
        kernel = numba.njit(**options)(function)
        try:
            kernel._cache = KernelCache(function, uses)  # as cache=True does, with a class of numba's
        except RuntimeError:
            _warn("numba finds no folder to keep compiled kernels in, so that every process compiles them: to keep them")
        return kernel

    return decorate


@cache
def _warn(what: str) -> None:
    """Warn, once for all kernels."""
    warnings.warn(f"{what}, set NUMBA_CACHE_DIR to a folder that can be written", RuntimeWarning, stacklevel=4)
