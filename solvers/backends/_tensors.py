"""The iteration of ``torch`` on one device: no step waits for it, and none allocates an (M, P) tensor.

Imported when that backend is first used, as it imports PyTorch. The iteration is that of ``admm.solve``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solvers.arrays import Array, blocks
from solvers.backends import admm
from solvers.backends._balance import FIRST_RHO, Balance
from solvers.backends._checkpoints import checkpoints
from solvers.problem import LayerProblem
from solvers.solution import Answer, Judge

SAMPLES_AT_ONCE = 4096  # columns of X that are cast to float64 together for XX'
COARSE = ("tf32", "bf16")  # what PyTorch calls the precisions of a float32 product that are too low here


class Iteration:
    """The data and the iterates on the device.

    With g = W'X and the state (s1, s2) of ``admm`` it keeps ``d = g - T``, ``t1 = T - s1`` and ``t2 = -s2``: T, the targets
    (Y where active, V elsewhere), is then in no elementwise pass, and 2g - s1 - T and 2W - s2 are one pass away.
    What it needs of X is in ``respond``, ``add_adjoint`` and ``correct``, so that a subclass need not hold X.

    Attributes
    ----------
    W, q, t2, work : Tensor, shape (N, M)
        Weights on the graph, their exactly sparse twin, the state, and scratch.
    d, t1, kept : Tensor, shape (M, P)
        As above; ``kept`` is the active part of 2g - s1 - T, and zero elsewhere.
    rho, metric : float
        The penalty parameter, and ``1 / c0^2``.
    """

    def __init__(
        self,
        problem: LayerProblem,
        device: str,
        dtype: str,
        start: tuple[Array | None, Array | None],
        rho: float | None,
    ) -> None:
        real = getattr(torch, dtype)

        def tensor(array: Any) -> Tensor:
            # torch.tensor copies, straight to the device; torch.from_numpy would warn of the problem's read-only views. It
            # takes no negative strides, which the view of a reversed array has.
            array = array if min(array.strides, default=0) >= 0 else array.copy()
            return torch.tensor(array, dtype=real, device=device)

        self.X = tensor(problem.X)  # (N, P)
        on = tensor(problem.active)  # (M, P), 1 and 0
        T = tensor(np.where(problem.active, problem.Y, problem.V))  # (M, P)
        self.inverse, self.metric = graph_inverse(self.X)
        W, L = start
        first = tensor(np.zeros((problem.N, problem.M)) if W is None else W)
        self.begin(T, on, tensor(problem.penalty), problem.epsilon, first, None if L is None else tensor(L), rho)

    def begin(
        self, T: Tensor, on: Tensor, penalty: Tensor, epsilon: float, W: Tensor, L: Tensor | None, rho: float | None
    ) -> None:
        """Take the data, and set the state to where the iteration starts: at W (N, M), with the multipliers L (M, P)."""
        self.T, self.on, self.penalty, self.W = T, on, penalty, W  # (M, P) twice, () or (N, 1) or (N, M), (N, M)
        self.one, self.radius = torch.ones_like(T[0, 0]), torch.full_like(T[0, 0], epsilon)
        self.tiny = max(float(self.radius), torch.finfo(T.dtype).tiny)  # keeps 0 / 0 out of a ball of radius 0
        self.distance, self.shrink, self.factor = (torch.empty_like(self.one) for _ in range(3))
        self.norms = torch.empty_like(self.T[:, 0])  # (M,)
        self.q, self.work = torch.empty_like(self.W), torch.empty_like(self.W)
        self.d, self.kept = torch.empty_like(self.T), torch.empty_like(self.T)
        self.set_rho(self.first_rho() if rho is None else rho)
        self.respond()
        # Zeros, or the fixed point that the start would be if it were the solution.
        self.t1, self.t2 = -self.d, -self.W
        if L is not None:
            self.kept.copy_(L)
            self.t1.add_(self.kept, alpha=1 / (self.rho * self.metric))
            self.add_adjoint(self.t2, self.kept, -1 / self.rho)

    def first_rho(self) -> float:
        """Return the first rho from the ridge weights, as ``admm`` does."""
        self.add_adjoint(self.work.zero_(), self.T, 1.0)
        self.correct(self.q.zero_(), self.work)  # minus the ridge weights
        mass, square = float(self.q.abs().sum()), float(self.q.square().sum())
        return FIRST_RHO * mass / (self.metric * square) if square > 0 else 1.0

    def set_rho(self, rho: float) -> None:
        """Set rho, and the thresholds that follow from it."""
        self.rho = rho
        self.high = self.penalty / rho
        self.low = -self.high

    # All products of this class are in place or have an out=, which autocast leaves alone.

    def respond(self) -> None:
        """Set d = W'X - T."""
        torch.addmm(self.T, self.W.T, self.X, beta=-1, out=self.d)

    def add_adjoint(self, out: Tensor, L: Tensor, scale: float) -> None:
        """Add scale X L' to an (N, M) tensor."""
        out.addmm_(self.X, L.T, alpha=scale)

    def correct(self, W: Tensor, residual: Tensor) -> None:
        """Subtract ``(metric XX' + I)^-1 residual`` from W; the residual (N, M) may be overwritten."""
        W.addmm_(self.inverse, residual, alpha=-1)

    def propose(self) -> None:
        """Split r = 2g - s1 - T into ``kept``, where active, and t1, elsewhere; set ``shrink``, q and t2 = 2W - s2."""
        # A product with the mask: on a CPU torch.where takes some twenty times as long.
        torch.mul(self.t1.add_(self.d, alpha=2), self.on, out=self.kept)
        self.t1.sub_(self.kept)
        torch.linalg.vector_norm(self.kept, dim=1, out=self.norms)  # by neuron first, as sums in float32 are best kept short
        torch.linalg.vector_norm(self.norms, out=self.distance)
        torch.div(self.radius, self.distance.clamp_(min=self.tiny), out=self.shrink)  # 1 inside the ball
        self.t2.add_(self.W, alpha=2)
        torch.clamp(self.t2, self.low, self.high, out=self.q)
        torch.sub(self.t2, self.q, out=self.q)  # the soft threshold z - clamp(z), exactly 0 within

    def multipliers(self) -> Tensor:
        """Return ``rho metric (r - prox)`` (M, P), a dual guess of the right signs, in the place of d."""
        torch.clamp(self.t1, min=0, out=self.d)
        return self.d.addcmul_(self.kept, self.one - self.shrink).mul_(self.rho * self.metric)

    def accept(self, relaxation: float) -> None:
        """Move the state, ``s += relaxation (prox - (g, W))``; d becomes g - s1."""
        # t = r - relaxation prox - (2 - relaxation) d. The prox is shrink r where active; elsewhere it is min(r, 0), and
        # r - relaxation min(r, 0) is a leaky ReLU.
        torch.add(self.one, self.shrink, alpha=-relaxation, out=self.factor)
        torch.nn.functional.leaky_relu_(self.t1, 1 - relaxation)
        self.t1.addcmul_(self.kept, self.factor).add_(self.d, alpha=relaxation - 2)
        self.d.add_(self.t1)
        self.t2.add_(self.q, alpha=-relaxation).add_(self.W, alpha=relaxation - 2)

    def change_rho(self, change: float) -> None:
        """Multiply rho by a factor and divide s - (g, W) by it, so that the multipliers rho (s - g) stay."""
        self.t1.add_(self.d, alpha=1 / change - 1)
        self.d.mul_(1 / change)
        self.t2.add_(torch.add(self.t2, self.W, out=self.work), alpha=1 / change - 1)
        self.set_rho(self.rho * change)

    def project(self) -> None:
        """Move W to the point of the graph nearest to s: a correction, so that rounding in the inverse fades."""
        self.add_adjoint(torch.add(self.t2, self.W, out=self.work), self.d, self.metric)
        self.correct(self.W, self.work)
        self.respond()


def run(
    at: Iteration, judge: Judge, limit: int, relaxation: float, working: Callable[[], AbstractContextManager[None]]
) -> Answer:
    """Iterate until the certificate is met or ``limit`` iterations are done; ``working`` holds PyTorch as they need it."""
    due, done, balance = checkpoints(), 0, Balance()
    while True:
        check = min(next(due), limit)
        with working():
            while done + 1 < check:
                done += 1
                at.propose()
                at.accept(_relaxation(relaxation, done))
                at.project()
            done += 1
            at.propose()
            q, dual = at.q.cpu().numpy(), at.multipliers().cpu().numpy()
        certificate = judge(q, dual, done)  # it calls the user, who must find PyTorch as it was left
        if certificate.meets(judge.tol) or done == limit:
            return Answer(q, dual, done)
        with working():
            at.respond()  # its place was lent to the multipliers: half an iteration, for a third less memory
            at.accept(_relaxation(relaxation, done))
            at.change_rho(balance.change(certificate))
            at.project()


def _relaxation(asked: float, iteration: int) -> float:
    """Return the relaxation of an iteration, lowered late as in ``admm``."""
    return min(asked, admm.LATE_RELAXATION) if iteration >= admm.LATE else asked


def graph_inverse(X: Tensor) -> tuple[Tensor, float]:
    """Return ``(XX' / c0^2 + I)^-1`` (N, N) and ``1 / c0^2``, computed in float64; c0 as in ``metric_of``."""
    home = torch.device("cpu") if X.device.type == "mps" else X.device  # MPS has no float64
    G = gram((X[:, part] for part in blocks(X.shape[1], SAMPLES_AT_ONCE)), len(X), home)
    inverse, metric = inverse_of(G)
    return inverse.to(X.device, X.dtype), metric


def gram(pieces: Iterable[Tensor], N: int, device: torch.device) -> Tensor:
    """Return XX' (N, N) in float64 from blocks of columns of X."""
    G = torch.zeros((N, N), dtype=torch.float64, device=device)
    for piece in pieces:
        wide = piece.to(device, torch.float64)
        G.addmm_(wide, wide.T)
    return G


def inverse_of(G: Tensor) -> tuple[Tensor, float]:
    """Return ``(G / c0^2 + I)^-1``, with G overwritten on the way, and ``1 / c0^2``."""
    metric = metric_of(float(G.max()))
    G.mul_(metric).diagonal().add_(1.0)
    return torch.cholesky_inverse(torch.linalg.cholesky(G)), metric


def metric_of(largest: float) -> float:
    """Return ``1 / c0^2`` with the authors' c0 = 0.3 sqrt(max XX'); the largest entry of XX' is on its diagonal."""
    return 1.0 / (0.3 * largest**0.5 or 1.0) ** 2


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep TF32 and bfloat16 out of products in float32, a CPU's convolutions too: convergence would end at 1e-3."""
    cuda: Any = torch.backends.cuda.matmul
    # PyTorch 2.9 put a switch a product beside the one for all of them, and objects where the two contradict each other.
    switches: tuple[Any, ...] = ()
    if hasattr(cuda, "fp32_precision"):
        mkldnn: Any = torch.backends.mkldnn
        switches = (cuda, mkldnn.matmul, mkldnn.conv)
    with ExitStack() as later:
        if not switches or any(switch.fp32_precision in COARSE for switch in switches):
            for switch in switches:
                later.callback(_put_back, switch, switch.fp32_precision)
            with suppress(RuntimeError):  # its objection: then the older switch is not what made the products coarse
                later.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
                torch.set_float32_matmul_precision("highest")
            for switch in switches:
                if switch.fp32_precision in COARSE:
                    switch.fp32_precision = "ieee"
        yield


def _put_back(switch: Any, found: str) -> None:
    """Set a product's switch to what was found; "none", if a wider setting then gives the same, as that may change again."""
    if switch.fp32_precision != found:
        switch.fp32_precision = "none"
        if switch.fp32_precision != found:
            switch.fp32_precision = found
