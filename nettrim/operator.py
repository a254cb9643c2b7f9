"""The program of a convolution solved without its patches: products are convolutions, and X is cut where it is judged.

Aghasi, Abdi, Romberg, "Fast Convex Pruning of Deep Neural Networks", SIAM J. Math. Data Sci. 2(1), 2020, state the ADMM with
a linear operator in the place of X and solve its least-squares step by conjugate gradients; that is ``inner="cg"``. The
iteration around it is that of the ``torch`` backend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nettrim.convolve import ROOM, ConvolutionOperator
from nettrim.graph import Activation
from nettrim.operator_problem import exactly, stated
from solvers import Check, LayerProblem, ProblemError, Solution, Status
from solvers.backends import admm
from solvers.backends._tensors import Iteration, gram, inverse_of, metric_of, run
from solvers.registry import check_limits
from solvers.solution import Answer, Judge


def solve_operator(
    layer: Any,
    images: Any,
    epsilon: float = 0.1,
    *,
    activation: Activation = "relu",
    penalize_bias: bool = True,
    inner: str = "gram",
    cg_iterations: int = 10,
    tol: float = 1e-3,
    max_iter: int | None = None,
    rho: float | None = None,
    relaxation: float = admm.RELAXATION,
    dtype: str | None = None,
    room: int = ROOM,
    callback: Callable[[Check], None] | None = None,
) -> Solution:
    """Trim one convolution on all positions of its input images, and never hold the patches.

    The program is that of ``LayerProblem.from_activations`` on the patches of all (image, position) pairs. Use it where
    those, N x P numbers, do not fit; ``trim`` and ``solve`` on stored patches draw some of the pairs, or hold all.

    Memory: the images; Y (M, P) in their dtype, which is the targets too where that is the working precision, else these are
    one more (M, P) array; three (M, P) arrays of iterates in the working precision, one of which becomes the dual; a mask of
    one byte a pair. ``inner="gram"`` holds three (N, N) arrays in float64 before it begins, then one. Beside them ``room``.

    Parameters
    ----------
    layer : torch.nn.Conv1d or Conv2d
        A trained convolution of one group, with any stride, dilation, padding and padding mode; not changed. A batch
        normalization behind it is not seen.
    images : torch.Tensor or array_like
        What reaches the layer, ``(n, channels, *space)``; finite. Half precision becomes float32, integers float64; tensors
        elsewhere are copied to the CPU.
    epsilon : float, optional
        Radius relative to the Frobenius norm of the layer's responses.
    activation : {"relu", "linear"}, optional
        What follows the layer.
    penalize_bias : bool, optional
        Whether the bias is priced like a weight; else it is free.
    inner : {"gram", "cg"}, optional
        How the least-squares step of the weights is made. "gram" sums XX' (N, N) once, from patches cut a few at a time, and
        inverts it, so that the step is exact. "cg" is the published way: conjugate gradients on ``A*(A(W)) + W``, all
        neurons as one vector; ours begins at the weights of the iteration before, the authors at 0 each time.
    cg_iterations : int, optional
        Steps of "cg" in each iteration, two convolutions each; 10 are published.
    tol : float, optional
        As in ``solve``: for the gap and both violations.
    max_iter : int, optional
        Iterations at most; None means 10,000.
    rho, relaxation : float, optional
        As in the backend ``torch``: first penalty parameter, which then follows the certificate, and over-relaxation.
    dtype : {"float32", "float64"}, optional
        Working precision. Default: float32 where ``tol`` is 1e-4 or more and the radius is not 0, else float64. The
        certificate is in float64 either way.
    room : int, optional
        Bytes that a batch of images and what is made of it may take, about; one image at least. Blocks of patches are
        held to it too.
    callback : callable, optional
        Called with a ``Check`` whenever an iterate is judged; whatever it raises ends the solve.

    Returns
    -------
    Solution
        Its W (N, M) is in the order of ``nettrim.layers.read``, so that ``nettrim.layers.write`` puts it into the layer.
        The status says whether the certificate was met; nothing is raised where it was not. The seconds are those of the
        whole call.

    Raises
    ------
    ModelError
        If the layer is no such convolution, or the images do not fit it or hold NaN or Inf.
    ProblemError
        If a number or a name is out of its range.
    """
    began = time.perf_counter()
    check_limits(tol, max_iter)
    if inner not in ("gram", "cg"):
        raise ProblemError(f"inner must be 'gram' or 'cg'; got {inner!r}")
    if not (cg_iterations >= 1 and cg_iterations % 1 == 0):
        raise ProblemError(f"cg_iterations must be a whole number, at least 1; got {cg_iterations}")
    if not room > 0:
        raise ProblemError(f"room must be a positive number of bytes; got {room}")
    problem, Y, on = stated(layer, images, epsilon, activation, penalize_bias, room)
    reason = admm.refuses(problem, rho=rho, relaxation=relaxation, dtype=dtype)
    if reason:
        raise ProblemError(reason)
    judge = Judge(problem, tol, callback, began=began)
    if problem.epsilon >= problem.epsilon_max:
        answer = Answer(np.zeros((problem.N, problem.M)), None, 0, "0 is feasible, so it is optimal")
    else:
        real = getattr(torch, dtype or ("float32" if tol >= 1e-4 and problem.epsilon > 0 else "float64"))
        X: Any = problem.X
        operator = ConvolutionOperator(layer, X.images, real, room)
        with exactly():
            at = _OnImages(operator, problem, Y.to(real), on, inner, int(cg_iterations), rho)
        answer = run(at, judge, 10_000 if max_iter is None else max_iter, relaxation, exactly)
    certificate = judge.verdict(answer.W, answer.dual)
    return Solution(
        W=answer.W,
        dual=answer.dual,
        status=Status.SOLVED if certificate.meets(tol) else Status.UNMET,
        certificate=certificate,
        tol=tol,
        backend=f"operator ({inner})",
        iterations=answer.iterations,
        seconds=time.perf_counter() - began,
        checks=tuple(judge.checks),
        message=answer.message,
    )


class _OnImages(Iteration):
    """The iteration on tensors, with convolutions for its products."""

    def __init__(
        self,
        operator: ConvolutionOperator,
        problem: LayerProblem,
        T: Tensor,
        on: Tensor,
        inner: str,
        cg_iterations: int,
        rho: float | None,
    ) -> None:
        self.operator, self.cg_iterations = operator, cg_iterations
        self.inverse: Tensor | None = None
        if inner == "gram":
            lazy: Any = problem.X
            G = gram(lazy.pieces(), problem.N, T.device)
            inverse, self.metric = inverse_of(G)
            self.inverse = inverse.to(T.dtype)
        else:
            self.metric = metric_of(float(operator.squares().max()))
        penalty = torch.tensor(problem.penalty, dtype=T.dtype, device=T.device)
        # V is 0 off Omega, and so is Y: the responses are the targets.
        W = T.new_zeros((problem.N, problem.M))
        self.begin(T, on, penalty, problem.epsilon, W, None, rho)

    def respond(self) -> None:
        """Set d = W'X - T."""
        self.operator.forward(self.W, out=self.d).sub_(self.T)

    def add_adjoint(self, out: Tensor, L: Tensor, scale: float) -> None:
        """Add scale X L' to an (N, M) tensor."""
        out.add_(self.operator.adjoint(L), alpha=scale)

    def correct(self, W: Tensor, residual: Tensor) -> None:
        """Subtract ``(metric XX' + I)^-1 residual`` from W, or what conjugate gradients make of it from 0.

        The residual is that of W in the equations of the new W, so that these begin at the W of the iteration before.
        """
        if self.inverse is not None:
            W.addmm_(self.inverse, residual, alpha=-1)
            return
        R, P = residual, residual.clone()
        size = first = float(R.square().sum())
        for _ in range(self.cg_iterations):
            if size <= torch.finfo(R.dtype).eps ** 2 * first:  # solved as far as this precision goes; 0 / 0 lies beyond
                return
            Q = torch.add(P, self.operator.normal(P), alpha=self.metric)
            step = size / float(torch.sum(P * Q))
            W.sub_(P, alpha=step)
            R.sub_(Q, alpha=step)
            before, size = size, float(R.square().sum())
            P.mul_(size / before).add_(R)
