"""The theorems of the Net-Trim papers as functions of weights, errors and radii; no torch here."""

from theory.bounds import cascade_bound, layer_bound, link_normalise, parallel_bound, posterior_bound
from theory.checks import Check
from theory.ensembles import Ensemble, bernoulli, correlated, gaussian, mixing, relu_filtered, uniform
from theory.estimates import Estimate, Fit, clopper_pearson, fit_constant, quantile
from theory.heldout import new_sample_bound, rate_bound, share_bound
from theory.recovery import (
    least_samples,
    recovers,
    recovery_check,
    recovery_probability,
    recovery_samples,
)
from theory.sensitivity import bound_at, shares, slope, split
from theory.trials import draw_trial, noisy_problem, recovery_trial
from theory.uniqueness import Uniqueness, Verdict, uniqueness

__all__ = [
    "Check",
    "Ensemble",
    "Estimate",
    "Fit",
    "Uniqueness",
    "Verdict",
    "bernoulli",
    "bound_at",
    "cascade_bound",
    "clopper_pearson",
    "correlated",
    "draw_trial",
    "fit_constant",
    "gaussian",
    "layer_bound",
    "least_samples",
    "link_normalise",
    "mixing",
    "new_sample_bound",
    "noisy_problem",
    "parallel_bound",
    "posterior_bound",
    "quantile",
    "rate_bound",
    "recovers",
    "recovery_check",
    "recovery_probability",
    "recovery_samples",
    "recovery_trial",
    "relu_filtered",
    "share_bound",
    "shares",
    "slope",
    "split",
    "uniform",
    "uniqueness",
]
