"""Small data and networks that tests of the baselines share, and how they look at them."""

import copy

import numpy as np
import torch

from nettrim.baselines.binarize import Sign
from nettrim.data import Data
from nettrim.masks import magnitude
from nettrim.models import mlp
from tests.networks import samples, small


def toy(n=90, size=(1, 6, 6), seed=0):
    """Three classes of images that differ in their mean."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.randn(n, *size, generator=generator) + y.view(-1, 1, 1, 1)
    return Data("toy", x[:60], y[:60], x[60:], y[60:])


def plain(seed=0):
    return mlp((36, 20, 12, 3), dropout=0.5, seed=seed)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def learnable(n=60):
    """Random samples for ``small``, and labels that a network of its kind gives them, so that they can be learned."""
    x, more = samples(n), samples(n, seed=2)
    with torch.no_grad():
        labels, others = small(5).eval()(x).argmax(1), small(5).eval()(more).argmax(1)
    return Data("toy", x, labels, more, others)


def bits(model):
    return {name: value.contiguous().reshape(-1).view(torch.uint8).tolist() for name, value in model.state_dict().items()}


def pruned(model, keep=0.3):
    """A copy with zeros."""
    model = copy.deepcopy(model)
    for name, mask in magnitude(model, keep).items():
        model.get_parameter(name).data[~mask] = 0
    return model


def net(seed=0):
    return mlp((12, 9, 7, 4), seed=seed)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def looked(model, x):
    """Return the hidden signs of a network, and its scores."""
    seen = []
    hooks = [
        part.register_forward_hook(lambda part, given, came: seen.append(came)) for part in model if isinstance(part, Sign)
    ]
    with torch.no_grad():
        scores = model(x)
    for hook in hooks:
        hook.remove()
    return seen, scores


def drawn(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def decaying(shape, seed=0, power=1.0):
    """A random tensor whose unfoldings have falling spectra, as trained kernels have."""
    K = normal(*shape, seed=seed)
    for axis, n in enumerate(shape):
        falling = np.diag(1.0 / np.arange(1, n + 1) ** power)
        K = np.moveaxis(np.tensordot(falling @ np.linalg.qr(normal(n, n, seed=seed + axis + 1))[0], K, (1, axis)), 0, axis)
    return K
