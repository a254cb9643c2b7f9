"""What the tests of backends share: who is installed, who takes a warm start, how an answer is held against a number."""

import importlib.util

import pytest

from solvers import available

BACKENDS = available()
STARTING = [name for name in BACKENDS if name != "cvxpy"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
# CVXPY's word on a hard instance; what it is worth is in the certificate. That it comes through at all is tested once.
inaccurate = pytest.mark.filterwarnings("ignore:Solution may be inaccurate:UserWarning")


def met(certificate, tol):
    """Tell whether a tolerance is met by a certificate made of rounded copies: one part in a million of it is let go."""
    return certificate.meets(tol * (1 + 1e-6))


def brackets(certificate, optimum):
    """Tell whether the certified interval, widened by what its violations can buy, holds a number known on paper."""
    paid = certificate.ball_violation * certificate.ball_multiplier
    paid += certificate.ceiling_violation * certificate.ceiling_multiplier
    # Weak duality is exact; what is left is the rounding of float64 sums.
    return certificate.bound * (1 - 1e-9) <= optimum <= (certificate.objective + paid) * (1 + 1e-9)


def module_of(backend):
    """Return the module name of a backend; a file may carry an underscore to stay off its library's name."""
    plain = f"solvers.backends.{backend}"
    return plain if importlib.util.find_spec(plain) else f"{plain}_"
