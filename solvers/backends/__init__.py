"""Backends, a file each. Dropping a file in is its registration; a trailing underscore keeps it off its library's name.

The contract. A backend is a module ``solvers/backends/NAME.py`` (or ``NAME_.py``) with

``REQUIRES``
    tuple of the top-level modules it needs, probed without importing them; so it imports them inside its functions.
``INSTALL``
    what to ``pip install`` when one is missing.
``TAKES_START``
    whether ``start`` helps it.
``refuses(problem, **options) -> str | None``
    why it will not take this problem, before any work; None when it will.
``warm_up() -> None``
    whatever must not be timed, compilation for one.
``solve(problem, *, judge, max_iter, start, <its options>) -> Answer``
    weights (N, M), a guess at the dual (M, P) with ``L_inactive >= 0`` and ``|X L'| <= penalty`` as nearly as it can,
    and its count of iterations. ``judge(W, dual, iteration)`` certifies an iterate; stop when the certificate
    ``meets(judge.tol)``. It must not write into the problem, and never reports success.

A name that begins with an underscore is a helper, not a backend. How to add one, say ``highs``, in a file:

1. Write ``solvers/backends/highs.py``; ``reference.py`` is the shortest to begin from. The keyword-only parameters of its
   ``solve`` after ``start`` are its options, and callers who misspell one are told their names.
2. ``python -m pytest tests/test_backends.py -k highs``: the contract, which runs over whatever is here and installed. It
   asks for certified answers on layers of every kind, determinism, respect for inputs that are read-only.
3. ``solve(problem, backend="highs")`` finds it, ``nettrim solvers`` lists it, ``benchmarks/agreement.py`` compares it.
4. A library of its own goes into an extra of setup.cfg, and the table of the README gets a row.
"""
