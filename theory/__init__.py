"""The theorems of the Net-Trim papers as functions of weights, errors and radii; no torch here."""

from theory.bounds import cascade_bound, layer_bound, link_normalise, parallel_bound, posterior_bound
from theory.checks import Check
from theory.heldout import new_sample_bound, rate_bound, share_bound
from theory.sensitivity import bound_at, shares, slope, split
from theory.uniqueness import Uniqueness, Verdict, uniqueness

__all__ = [
    "Check",
    "Uniqueness",
    "Verdict",
    "bound_at",
    "cascade_bound",
    "layer_bound",
    "link_normalise",
    "new_sample_bound",
    "parallel_bound",
    "posterior_bound",
    "rate_bound",
    "share_bound",
    "shares",
    "slope",
    "split",
    "uniqueness",
]
