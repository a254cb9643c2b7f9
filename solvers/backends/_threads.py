"""A map over threads that Ctrl-C ends, for work that OSQP does in C without the GIL."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

POLL = 0.002  # seconds between looks; OSQP iterates for longer than that where a solve takes long at all


def each(work: Callable[[int, threading.Event], None], items: Iterable[int], n_jobs: int) -> None:
    """Call ``work(item, stop)`` for every item, in ``n_jobs`` threads, while the caller's thread waits for a Ctrl-C.

    Each solve of OSQP puts a handler of its own on SIGINT. It is heeded while OSQP iterates and forgotten while it
    polishes, and two solves that overlap never give Python's handler back. So the main thread, once the iterations have
    begun, puts Python's handler in its place again.

    Parameters
    ----------
    work : callable
        Takes an item and an event; it returns soon after the event is set.
    items : iterable of int
        What to call it with.
    n_jobs : int
        How many threads; they have all ended when this returns or raises.
    """
    stop = threading.Event()
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    pool = ThreadPoolExecutor(n_jobs, thread_name_prefix="nettrim")
    try:
        waiting = {pool.submit(work, item, stop) for item in items}
        while waiting:
            done, waiting = wait(waiting, POLL if handler is not None else None, FIRST_EXCEPTION)
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
            for future in done:
                future.result()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
