"""Small networks that the tests of ``nettrim`` share: each spells ReLU, dropout or flattening in its own way."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Functional(nn.Module):
    """ReLU as a function, a method and in place; dropout as a function; flattening as a view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 9), nn.Linear(9, 7)
        self.third, self.last = nn.Linear(7, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.first(x.view(x.size(0), -1)))
        x = F.dropout(x, 0.5, training=False)
        x = torch.relu_(self.second(x))
        return self.last(self.third(x).relu())


class OneReLU(nn.Module):
    """One ReLU module after two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.a, self.b, self.c = nn.Linear(12, 9), nn.Linear(9, 7), nn.Linear(7, 4)

    def forward(self, x):
        return self.c(self.relu(self.b(self.relu(self.a(x.flatten(1))))))


class Residual(nn.Module):
    """A sum around a ReLU layer: trimmed, but not a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = x.flatten(1)
        return self.b(x + torch.relu(self.a(x)))


class Branching(nn.Module):
    """Control flow that depends on the data: cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 4)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else -self.a(x)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


class Odd(nn.Module):
    """A layer called twice, one never called, one before a sigmoid, one before both a ReLU and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never = nn.Linear(12, 12), nn.Linear(12, 12)
        self.gate, self.fork, self.last = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        x = torch.relu(self.twice(torch.relu(self.twice(x))))
        x = torch.sigmoid(self.gate(x))
        y = self.fork(x)
        return self.last(torch.relu(y) + y)


def small(seed: int = 0) -> nn.Sequential:
    """A plain network 12-9-7-4 with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4)
        )


def samples(n: int = 60, seed: int = 1) -> torch.Tensor:
    """Random inputs ``(n, 3, 4)``."""
    return torch.randn(n, 3, 4, generator=torch.Generator().manual_seed(seed))
