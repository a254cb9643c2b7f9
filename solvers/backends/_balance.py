"""How rho follows the certificate: the duality gap against the violations.

He, Yang and Wang (2000) balance the primal and dual residuals of the ADMM; ours balances what is proved in the end.
"""

from __future__ import annotations

import numpy as np

from solvers.certificate import Certificate

FIRST_RHO = 0.3  # over the typical ridge weight, which gives rho its unit
RHO_POWER, RHO_FACTOR, RHO_DAMPING = 0.5, 2.0, 0.7


class Balance:
    """Moves rho until gap and violations fall together: a larger rho helps the weights, a smaller one the dual.

    Every change of direction shortens the step in log rho, so that rho settles, as convergence demands of it.
    """

    def __init__(self) -> None:
        self.step = float(np.log(RHO_FACTOR))
        self.direction = 0.0

    def change(self, certificate: Certificate) -> float:
        """Return the factor on rho that the latest certificate asks for.

        Parameters
        ----------
        certificate : Certificate
            Of the latest iterate.

        Returns
        -------
        float
            Above 1 where violations lag behind the gap, below 1 where the gap does.
        """
        gap, violation = max(certificate.gap, 1e-12), max(certificate.violation, 1e-12)
        wanted = RHO_POWER * float(np.log(violation / gap))
        if wanted * self.direction < 0:
            self.step *= RHO_DAMPING
        self.direction = wanted
        return float(np.exp(np.clip(wanted, -self.step, self.step)))
