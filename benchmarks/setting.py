"""Where a benchmark ran: versions, machine and threads, stored beside its rows."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from threadpoolctl import threadpool_info


def setting(*packages: str) -> dict[str, Any]:
    """Return the versions of the packages and of Python, the kind of machine, and the threads of BLAS and of numba."""
    import numba

    return {
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": {
            "blas": max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1),
            "numba": numba.config.NUMBA_NUM_THREADS,
        },
    }
