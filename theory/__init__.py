"""The theorems of the Net-Trim papers as functions of weights, errors and radii; no torch here."""

from theory.bounds import parallel_bound, posterior_bound

__all__ = ["parallel_bound", "posterior_bound"]
