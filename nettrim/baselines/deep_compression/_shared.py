"""Weight sharing: few distinct values a layer, and a network in which each of these values is one parameter.

Second stage of Han, Mao, Dally, "Deep Compression" (ICLR 2016), section 3.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nettrim.baselines import _door
from nettrim.baselines.deep_compression._coded import MOST_BITS
from nettrim.baselines.deep_compression._kmeans import kmeans
from nettrim.errors import ModelError
from nettrim.masks import weights


def share(model: nn.Module, bits: int, *, start: str = "linear", seed: int = 0) -> nn.Module:
    """Return a network whose layers have at most ``2**bits`` distinct weights beside 0 each: k-means of every layer apart.

    Parameters
    ----------
    model : torch.nn.Module
        Left unchanged. Weights that are 0 stay so and belong to no cluster.
    bits : int
        Of a weight's index, 1 to 16: there are ``k = 2**bits`` clusters a layer.
    start : {"linear", "density", "forgy"}, optional
        Of k-means: see ``starts``.
    seed : int, optional
        Of ``"forgy"``; each layer has draws of its own.

    Returns
    -------
    torch.nn.Module
        A copy, each weight the centroid of its cluster, in the type of the model.

    Raises
    ------
    SettingError
        If a setting is outside of this.
    ModelError
        If weights are NaN or Inf.
    """
    bits, seed = _door.whole("bits", bits, 1, MOST_BITS), _door.whole("seed", seed, 0)
    for name, weight in weights(model).items():
        if not weight.isfinite().all():
            raise ModelError(f"{name!r} holds NaN or Inf, which no cluster takes; share weights that are all finite")
    model = copy.deepcopy(model)
    for number, weight in enumerate(weights(model).values()):
        alive = weight.detach() != 0
        values = weight.detach()[alive].double().cpu().numpy()  # NumPy has no bfloat16
        if len(values):
            centroids, index = kmeans(values, min(2**bits, len(values)), start, seed=[seed, number])
            with torch.no_grad():
                weight[alive] = torch.from_numpy(centroids[index]).to(weight)
    return model


class Shared(nn.Module):
    """A network of shared weights, to be trained: the gradient of a shared weight is the sum over all that share it.

    The parameters are the shared weights and whatever else the network has (biases). Which weight shares which value, and
    which weights are 0, is settled: W_ij = C[I_ij], hence dL/dC_k = sum over i, j with I_ij = k of dL/dW_ij, equation (3).

    Parameters
    ----------
    model : torch.nn.Module
        Of few distinct weights a layer, as ``share`` returns it; left unchanged.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(model)
        self.names, self.centroids = [], nn.ParameterList()
        for number, (name, weight) in enumerate(weights(self.network).items()):
            flat = weight.requires_grad_(False).flatten()
            places = flat.nonzero()[:, 0]
            values, index = torch.unique(flat[places], return_inverse=True)
            self.names.append(name)
            self.centroids.append(nn.Parameter(values))
            self.register_buffer(f"places{number}", places)
            self.register_buffer(f"index{number}", index)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the layers, as functions of the shared ones.

        Returns
        -------
        dict
            Name in the network to tensor.
        """
        parameters, made = dict(self.network.named_parameters()), {}
        for number, (name, centroids) in enumerate(zip(self.names, self.centroids, strict=True)):
            places, index = self.get_buffer(f"places{number}"), self.get_buffer(f"index{number}")
            flat = torch.zeros_like(parameters[name]).flatten().index_copy(0, places, centroids[index])
            made[name] = flat.reshape(parameters[name].shape)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of samples.

        Parameters
        ----------
        x : torch.Tensor
            Samples.

        Returns
        -------
        torch.Tensor
            Its outputs.
        """
        return functional_call(self.network, self.tensors(), (x,))

    def plain(self) -> nn.Module:
        """Return the network with its weights as plain parameters again.

        Returns
        -------
        torch.nn.Module
            A copy, in the mode of this module.
        """
        model = copy.deepcopy(self.network)
        tensors = self.tensors()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in tensors:
                    parameter.copy_(tensors[name])
                    parameter.requires_grad_(True)
        return model
