"""The theorems of the Net-Trim papers as functions of weights, errors and radii; no torch here."""

from theory.bounds import parallel_bound, posterior_bound
from theory.uniqueness import Uniqueness, Verdict, uniqueness

__all__ = ["Uniqueness", "Verdict", "parallel_bound", "posterior_bound", "uniqueness"]
