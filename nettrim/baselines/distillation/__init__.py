"""Knowledge distillation: a small network is trained on the softened outputs of a large one.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (NIPS 2014 deep learning workshop, arXiv 1503.02531),
sections 2 and 3. A softmax of temperature T makes q_i = exp(z_i / T) / sum_j exp(z_j / T) of logits z. The student's z are
trained at the teacher's v, both at the same T, and at the labels y at a temperature of 1:

    L = alpha T^2 KL(q(v) || q(z)) + (1 - alpha) CE(y, q_1(z))

Gradients of the first term go as 1 / T^2, so that T^2 keeps the weights of the two when T is changed. For T large beside the
logits, its gradient at z_i is (z_i - v_i) / N for N classes, with z and v less their means: matching logits is this limit.

The teacher, unless one is given, is the paper's for MNIST: two layers of 1200 ReLU, dropout, images moved by up to two
pixels. The student sees the images as they are. A class may be left out of what it is trained on; the paper does so with the
threes, finds the bias of that class much too low, and raises it.

Where we depart from the paper: teacher and student are trained by Adam with a cosine; the teacher drops no pixels, and the
norms of its weights have no bound (on MNIST they end near 2); and the raise of the bias is such that, on all training
samples, the class is predicted as often as it occurs: else nothing is used of its samples, and nothing of the test samples.
"""

from __future__ import annotations

import copy
import math
import os
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)

from nettrim.augment import augmented
from nettrim.baselines import _door
from nettrim.baselines._result import Baseline, row, settings_of
from nettrim.baselines._stages import Stage, Stages
from nettrim.baselines.distillation._bias import bias_shift, check_class, output_bias
from nettrim.data import Data
from nettrim.errors import ModelError, SettingError
from nettrim.evaluate import evaluate, logits
from nettrim.fingerprint import fingerprint
from nettrim.models import mlp
from nettrim.train import train

__all__ = ["BEGINS", "NETWORK", "bias_shift", "distillation_loss", "run", "train_teacher"]

BEGINS = "born"
NETWORK = "mlp800"
TEACHER = (1200, 1200)
DROPOUT = 0.5


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """Return alpha T^2 KL(q(teacher) || q(student)) + (1 - alpha) CE(labels, student), the mean over the samples.

    Parameters
    ----------
    student_logits : torch.Tensor
        Shape ``(n, n_classes)``.
    teacher_logits : torch.Tensor
        Of the same shape; targets, to which no gradient goes.
    labels : torch.Tensor
        Class numbers ``(n,)``, int64.
    temperature : float
        T, positive, of both softmaxes; that of the cross-entropy is 1.
    alpha : float
        Weight of the soft targets, in [0, 1].

    Returns
    -------
    torch.Tensor
        A number.

    Raises
    ------
    ValueError
        If temperature or alpha is outside its range, or the logits differ in shape.
    """
    if not 0 < temperature < math.inf or not 0 <= alpha <= 1:
        raise ValueError(f"temperature must be positive and alpha in [0, 1]; got {temperature} and {alpha}")
    if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
        raise ValueError(
            f"the logits of student and teacher must be of one shape (n, n_classes); got {tuple(student_logits.shape)} and "
            f"{tuple(teacher_logits.shape)}"
        )
    student, teacher = (F.log_softmax(z / temperature, dim=1) for z in (student_logits, teacher_logits.detach()))
    # "batchmean": the default mean is over the classes too, a divergence too small by their number.
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


def train_teacher(
    data: Data,
    classes: int,
    *,
    epochs: int = 20,
    batch_size: int = 200,
    learning_rate: float = 1e-3,
    jitter: int = 2,
    seed: int = 0,
) -> nn.Module:
    """Train the paper's teacher: two layers of 1200 ReLU, half of them dropped, on images that are moved at random.

    Parameters
    ----------
    data : Data
        Whose training samples it sees.
    classes : int
        Logits.
    epochs : int, optional
        Passes over the samples.
    batch_size : int, optional
        Samples a step.
    learning_rate : float, optional
        Adam's first.
    jitter : int, optional
        By how many pixels images are moved at most.
    seed : int, optional
        Of weights and training.

    Returns
    -------
    torch.nn.Module
        The teacher, in evaluation mode.
    """
    return train(
        _large(data, classes, seed),
        data.x_train,
        data.y_train,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        augment=partial(augmented, shift=jitter, flip=False) if jitter else False,
        label="training the teacher",
        seed=seed,
    )


def run(
    model: nn.Module,
    data: Data,
    teacher: nn.Module | None = None,
    *,
    temperature: float = 20.0,
    alpha: float = 0.9,
    epochs: int = 20,
    batch_size: int = 200,
    learning_rate: float = 1e-3,
    teacher_epochs: int = 20,
    jitter: int = 2,
    without: int | None = None,
    control: bool = True,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Baseline:
    """Train a student on the soft targets of a teacher, and the same student on the labels alone.

    Parameters
    ----------
    model : torch.nn.Module
        The student with its initial weights; left unchanged.
    data : Data
        Whose training samples are the transfer set, as they are.
    teacher : torch.nn.Module, optional
        Trained, with as many logits; by default ReLU layers of 1200 and 1200 units are trained here.
    temperature : float, optional
        T. The paper has 20 for layers of 800; less for very small students.
    alpha : float, optional
        Weight of the soft targets; that of the labels is 1 - alpha.
    epochs : int, optional
        Passes over the transfer set.
    batch_size : int, optional
        Samples a step, of the teacher too.
    learning_rate : float, optional
        Adam's first, likewise.
    teacher_epochs : int, optional
        Passes of the teacher over the training samples, if it is trained here.
    jitter : int, optional
        By how many pixels the images that it sees are moved at most; 0 for samples that are no images.
    without : int, optional
        A class left out of the transfer set, not of the teacher's training; a last step raises its bias.
    control : bool, optional
        Whether the student is trained on the labels alone too, all else the same.
    seed : int, optional
        Of all draws.
    folder : path-like, optional
        Keeps the finished stages.

    Returns
    -------
    Baseline
        The distilled student, its bias raised if a class was left out. Rows: the teacher, the student trained on labels,
        the distilled one and the raised one; with a class left out ``class_errors`` are the errors on its test samples.

    Raises
    ------
    SettingError
        If a setting is outside its range.
    ModelError
        If student or teacher does not fit the data or the other, or no bias of the student's output can be raised.
    DataError
        If the model cannot be trained on the data, or they lack the class that is to be left out.
    """
    settings = settings_of(locals()) | {"teacher": _named(teacher)}
    _check(settings, model, data, teacher)
    without, recipe = settings["without"], {key: settings[key] for key in ("epochs", "batch_size", "learning_rate", "seed")}
    stages = Stages(folder, model, data, {"method": "distillation"} | settings)
    if teacher is None:
        classes = logits(model, data.x_test[:1]).shape[1]
        large = recipe | {"epochs": settings["teacher_epochs"], "jitter": settings["jitter"]}
        make = partial(train_teacher, data, classes, **large)
        teacher = stages.run("teacher", lambda: Stage(make()), _large(data, classes, settings["seed"])).model
    rows = [_row("teacher", teacher, data, without)]
    part = slice(None) if without is None else data.y_train != without
    x, y = data.x_train[part], data.y_train[part]
    if control:
        hard = stages.run("labels", lambda: Stage(train(model, x, y, label="training on labels", **recipe)), model).model
        rows.append(_row("labels", hard, data, without))
    given = teacher  # no longer None

    def distilled() -> Stage:
        soft = logits(given, x)

        def loss(student: nn.Module, samples: Tensor, which: Tensor) -> Tensor:
            return distillation_loss(student(samples), soft[which], y[which], temperature, alpha)

        return Stage(train(model, x, torch.arange(len(x)), loss=loss, label="distilling", **recipe))

    student = stages.run("distilled", distilled, model).model
    rows.append(_row("distilled", student, data, without))
    if without is not None:
        shift = bias_shift(logits(student, data.x_train), without, int((data.y_train == without).sum()))
        student = copy.deepcopy(student)
        with torch.no_grad():
            output_bias(student)[without] += shift
        rows.append(_row("bias raised", student, data, without, shift))
    return Baseline("distillation", student, {}, tuple(rows), settings)


def _check(settings: dict[str, Any], model: nn.Module, data: Data, teacher: nn.Module | None) -> None:
    """Refuse what cannot be done, before any of it is; whole numbers among the settings are made so."""
    for name in ("temperature", "learning_rate"):
        _door.positive(name, settings[name])
    _door.fraction("alpha", settings["alpha"], closed=True)
    for name in ("epochs", "batch_size", "teacher_epochs"):
        settings[name] = _door.whole(name, settings[name])
    for name in ("jitter", "seed"):
        settings[name] = _door.whole(name, settings[name], 0)
    _door.choice("control", settings["control"], (True, False))
    _door.fits(model, data)
    if teacher is not None:
        _door.fits(teacher, data, frozen=True)
        student, large = logits(model, data.x_test[:1]).shape[1], logits(teacher, data.x_test[:1]).shape[1]
        if student != large:
            raise ModelError(f"teacher and student need as many logits; got {large} and {student}")
    elif settings["jitter"] and (data.x_train.ndim != 4 or min(data.x_train.shape[2:]) <= settings["jitter"]):
        raise SettingError(
            f"jitter must be 0 for samples of shape {tuple(data.x_train.shape[1:])}: they are no images of more than "
            f"{settings['jitter']} pixels in height and width"
        )
    if settings["without"] is not None:
        settings["without"] = _door.whole("without", settings["without"], 0)
        check_class(settings["without"], model, data)


def _large(data: Data, classes: int, seed: int) -> nn.Module:
    """Return the teacher with its initial weights."""
    made = mlp((data.x_train[0].numel(), *TEACHER, classes), dropout=DROPOUT, seed=seed)
    return made.to(data.x_train.device, data.x_train.dtype)


def _named(teacher: nn.Module | None) -> str:
    """Return what tells a teacher from all others."""
    if teacher is None:
        return "-".join(map(str, TEACHER))
    return fingerprint({}, teacher, []) if isinstance(teacher, nn.Module) else type(teacher).__name__


def _row(step: str, model: nn.Module, data: Data, without: int | None, shift: float = 0.0) -> dict[str, Any]:
    more: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    if without is not None:
        these = data.y_test == without
        more["class_errors"] = evaluate(model, data.x_test[these], data.y_test[these]).errors
        more["shift"] = shift
    return row(step, model, {}, data, **more)
