"""The theorems of the Net-Trim papers as functions of weights, errors and radii; no torch here."""

from theory.bounds import cascade_bound, layer_bound, link_normalise, parallel_bound, posterior_bound
from theory.checks import Check
from theory.uniqueness import Uniqueness, Verdict, uniqueness

__all__ = [
    "Check",
    "Uniqueness",
    "Verdict",
    "cascade_bound",
    "layer_bound",
    "link_normalise",
    "parallel_bound",
    "posterior_bound",
    "uniqueness",
]
