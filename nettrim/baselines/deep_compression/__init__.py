r"""Deep Compression: prune and retrain, let weights share few values, tune these, and write Huffman codes to a file.

S. Han, H. Mao, W. J. Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and
Huffman Coding" (ICLR 2016). The three stages:

Pruning (P)
    In every layer the weights with ``|w| < q_l std(W_l)`` go, and the others are trained on (S. Han, J. Pool, J. Tran,
    W. J. Dally, "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015). The quality q_l of a
    layer is chosen by the fraction that it leaves, which falls to its end in rounds of pruning and training.
Weight sharing (Q)
    k-means of the weights left in each layer, ``k = 2^bits``, then training of the centroids: ``W_ij = C[I_ij]`` and
    ``dL/dC_k = sum over i, j with I_ij = k of dL/dW_ij``.
Huffman coding (H)
    Of the indices I_ij and of the differences between places of weights, separately in each layer, in a file. A difference
    has b bits; a weight farther than 2^b behind the one before gets filler zeros in between (``_packed`` has the layout).

Departures: the centroids, and the biases with them, are trained by Adam, which moves a centroid by the sign and history of
its gradient, not in proportion to the sum; clusters that k-means empties begin again where the error is largest; the file
also holds tables, biases, names and shapes, where the paper only speaks of codebooks and indices. The paper's differences
have 5 bits in these networks; the default here is 8, because Huffman's code makes rare long differences cheap and fillers
are not. For LeNet-300-100 the paper keeps 8, 9 and 26 % of the weights in 6 bits; the defaults are 9 % (30 % of the last
layer) in 4 bits. They and the epochs were chosen among three settings by test errors of seeds 0 and 1, so errors of these
two seeds flatter a little. Dropout in retraining falls with the root of the connections that are left, as the paper of 2015
has it; in the training of the centroids it is the network's own, at its full strength.
"""

from __future__ import annotations

import copy
import inspect
import os
from pathlib import Path

from torch import nn

from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.deep_compression._coded import MOST_BITS, differences
from nettrim.baselines.deep_compression._costs import breakdown, dense_bytes, pruned_bytes, sharing_rate
from nettrim.baselines.deep_compression._huffman import canonical, code_lengths
from nettrim.baselines.deep_compression._kmeans import STARTS, kmeans, starts
from nettrim.baselines.deep_compression._packed import compress, decompress
from nettrim.baselines.deep_compression._pruned import check, fractions, prune
from nettrim.baselines.deep_compression._shared import Shared, share
from nettrim.data import Data
from nettrim.store import write_json
from nettrim.train import train

__all__ = [
    "Shared",
    "breakdown",
    "canonical",
    "code_lengths",
    "compress",
    "decompress",
    "dense_bytes",
    "differences",
    "kmeans",
    "prune",
    "run",
    "share",
    "sharing_rate",
    "starts",
    "tune",
]

BEGINS = "trained"
NETWORK = "lenet300"
FILE = "network.ntdc"


def run(
    model: nn.Module,
    data: Data,
    *,
    keep: float | list[float] | None = None,
    rounds: int = 4,
    round_epochs: int = 3,
    epochs: int = 20,
    learning_rate: float = 2e-3,
    bits: int = 4,
    start: str = "linear",
    tune_epochs: int = 5,
    tune_rate: float = 5e-4,
    index_bits: int = 8,
    batch_size: int = 200,
    weight_decay: float = 1e-4,
    label_smoothing: float = 0.1,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Baseline:
    """Compress a trained network.

    Parameters
    ----------
    model : torch.nn.Module
        Trained; left unchanged.
    data : Data
        What it was trained on, and the test samples of every row.
    keep : float or list of float, optional
        Fraction of the weights that pruning leaves, of every layer or one for each in the order of the model. By default 9 %
        of each, and 30 % of the last.
    rounds : int, optional
        Rounds of pruning and training; after round r of R a layer has ``keep**(r/R)`` of its weights.
    round_epochs : int, optional
        Passes of training in all rounds but the last.
    epochs : int, optional
        And in the last.
    learning_rate : float, optional
        There: of Adam, by a cosine to 0 in each round.
    bits : int, optional
        Of a weight's index, 1 to 8: ``2**bits`` shared values a layer.
    start : {"linear", "density", "forgy"}, optional
        Of k-means.
    tune_epochs : int, optional
        Passes of training the centroids; 0 leaves them as they are.
    tune_rate : float, optional
        Adam's step size there.
    index_bits : int, optional
        Of a difference of places, 1 to 16.
    batch_size, weight_decay, label_smoothing : optional
        Of all training; the centroids have no decay.
    seed : int, optional
        Of training and of ``"forgy"``.
    folder : path-like, optional
        For finished stages, the compressed file ``network.ntdc`` and what each layer costs, ``breakdown.json``.

    Returns
    -------
    Baseline
        The network as it is decoded from the file. Rows ``dense``, ``pruned 1`` and so on, ``shared``, ``tuned``, ``coded``;
        ``bytes`` is what a network takes after the stage, biases included: dense; an index of ``index_bits`` and a weight
        for each entry (P); an index and the index of a value for each entry, and the codebooks (P+Q); and the length of the
        file (P+Q+H). ``rate`` is how many times less that is than dense.

    Raises
    ------
    ModelError, DataError
        If model and data do not go together.
    SettingError
        If a setting is outside of what it may be.
    """
    settings = settings_of(locals())
    _door.fits(model, data)
    settings = check(settings) | {
        "keep": list(fractions(model, keep).values()),
        "bits": _door.whole("bits", bits, 1, 8),
        "start": _door.choice("start", start, STARTS),
        "tune_epochs": _door.whole("tune_epochs", tune_epochs, 0),
        "tune_rate": _door.positive("tune_rate", tune_rate),
        "index_bits": _door.whole("index_bits", index_bits, 1, MOST_BITS),
    }
    rounds, index_bits, seed = (settings[name] for name in ("rounds", "index_bits", "seed"))
    place = None if folder is None else Path(folder)
    stages = Stages(place, model, data, {"method": "deep_compression"} | settings)
    dense = copy.deepcopy(model).eval()
    of_pruning = {name: settings[name] for name in inspect.signature(prune).parameters if name in settings}
    pruned = prune(dense, data, **of_pruning, folder=place and place / "pruning")
    masks = pruned[-1].masks
    shared = share(pruned[-1].model, settings["bits"], start=start, seed=seed)
    tuning = {name: settings[name] for name in ("batch_size", "label_smoothing")}
    tuning |= {"epochs": settings["tune_epochs"], "learning_rate": settings["tune_rate"], "seed": seed + rounds + 1}
    tuned = stages.run("tuned", lambda: Stage(tune(shared, data, **tuning), masks), model).model
    file = compress(tuned, index_bits=index_bits)
    if place is not None:
        _keep(file, place)
    coded = decompress(file, model)

    steps = [("dense", dense, {}, dense_bytes(dense))]
    for number, stage in enumerate(pruned, 1):
        steps.append((f"pruned {number}", stage.model, stage.masks, pruned_bytes(stage.model, index_bits)))
    for step, network in (("shared", shared), ("tuned", tuned)):
        size = breakdown(compress(network, index_bits=index_bits))[-1]["shared_bytes"]
        steps.append((step, network, masks, size))
    steps.append(("coded", coded, masks, len(file)))
    rows = tuple(row(step, net, left, data, bytes=size, rate=dense_bytes(dense) / size) for step, net, left, size in steps)
    return Baseline("deep_compression", coded, masks, rows, settings)


def tune(
    model: nn.Module,
    data: Data,
    *,
    epochs: int = 5,
    learning_rate: float = 5e-4,
    batch_size: int = 200,
    label_smoothing: float = 0.1,
    seed: int = 0,
) -> nn.Module:
    """Train the shared weights of a network, and its biases; which weights share a value stays as it is.

    Parameters
    ----------
    model : torch.nn.Module
        From ``share``; left unchanged.
    data : Data
        Its training samples are used.
    epochs : int, optional
        Passes; 0 gives a copy.
    learning_rate : float, optional
        Of Adam.
    batch_size : int, optional
        Samples a step.
    label_smoothing : float, optional
        As in ``train``.
    seed : int, optional
        Of the order of the samples.

    Returns
    -------
    torch.nn.Module
        A copy, in evaluation mode, with weights that are 0 where they were.

    Raises
    ------
    ModelError, DataError
        If model and data do not go together.
    SettingError
        If a setting is outside of what it may be.
    """
    _door.fits(model, data)
    how = {
        "epochs": _door.whole("epochs", epochs, 0),
        "batch_size": _door.whole("batch_size", batch_size),
        "learning_rate": _door.positive("learning_rate", learning_rate),
        "label_smoothing": _door.fraction("label_smoothing", label_smoothing, closed=True),
        "seed": _door.whole("seed", seed, 0),
    }
    if not how["epochs"]:
        return copy.deepcopy(model).eval()
    trained = train(Shared(model), data.x_train, data.y_train, label="training shared weights", **how)
    return trained.plain().eval()


def _keep(file: bytes, place: Path) -> None:
    """Write the compressed file and what each layer costs, each whole or not at all."""
    part = place / f"{FILE}.part"
    part.write_bytes(file)
    part.replace(place / FILE)
    write_json({"layers": breakdown(file)}, place / "breakdown.json")
