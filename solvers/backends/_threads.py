"""A map over threads that Ctrl-C ends, for work done in C without the GIL."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

POLL = 0.05  # seconds between looks for a Ctrl-C


def each(work: Callable[[int, threading.Event], None], items: Iterable[int], n_jobs: int) -> None:
    """Call ``work(item, stop)`` for every item, in ``n_jobs`` threads or, for 1, in the caller's own.

    OSQP puts a handler of its own on SIGINT while it solves. In one thread it takes it off again; two that overlap lose
    Python's, and with it the Ctrl-C. So while threads run, SIGINT is blocked and looked for here, and handed to Python's
    handler when they have ended. (Should a thread of another library take it, the solves that run end all the same.)

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
    if n_jobs == 1:
        for item in items:
            work(item, stop)
        return
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "pthread_sigmask")
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if main else set()
    pool = ThreadPoolExecutor(n_jobs, thread_name_prefix="nettrim")
    try:
        waiting = {pool.submit(work, item, stop) for item in items}
        while waiting:
            done, waiting = wait(waiting, POLL, FIRST_EXCEPTION)
            for future in done:
                future.result()
            if main and signal.SIGINT in signal.sigpending():
                return
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        if main:
            handler = signal.getsignal(signal.SIGINT)
            if handler is not None:
                signal.signal(signal.SIGINT, handler)  # the same, but in C again
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)  # a Ctrl-C that was waiting arrives here
