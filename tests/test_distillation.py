"""Distillation: the loss against its formula, its limits, the raised bias, and a student that gains by soft targets."""

import copy
import dataclasses
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks import rows
from benchmarks.baselines import distillation as study
from nettrim import baselines
from nettrim.baselines import distillation as method
from nettrim.baselines.distillation import bias_shift, distillation_loss
from nettrim.data import mnist5k
from nettrim.errors import DataError, ModelError, SettingError
from nettrim.models import mlp
from nettrim.train import train

QUICK = {"epochs": 3, "batch_size": 50}


def draws(seed, n=6, classes=5):
    """Return logits of a student and a teacher ``(n, classes)`` and labels, in float64."""
    generator = torch.Generator().manual_seed(seed)
    z, v = (2 * torch.randn(n, classes, dtype=torch.float64, generator=generator) for _ in range(2))
    return z, v, torch.randint(classes, (n,), generator=generator)


def gradient(z, v, y, temperature, alpha):
    z = z.clone().requires_grad_()
    distillation_loss(z, v, y, temperature, alpha).backward()
    return z.grad


def first(data, n):
    parts = {part: getattr(data, part)[:n] for part in ("x_train", "y_train")}
    return dataclasses.replace(data, **parts)


# --- the loss


@given(st.integers(0, 99), st.floats(0.3, 30.0), st.floats(0.0, 1.0))
def test_the_loss_is_its_formula(seed, temperature, alpha):
    z, v, y = draws(seed)

    def q(logits, T):
        e = np.exp(logits.numpy() / T)
        return e / e.sum(1, keepdims=True)

    p, r = q(v, temperature), q(z, temperature)
    soft = temperature**2 * np.sum(p * np.log(p / r), axis=1).mean()
    hard = -np.log(q(z, 1.0)[np.arange(len(y)), y.numpy()]).mean()
    expected = alpha * soft + (1 - alpha) * hard
    # p log(p / r) of order 1 / T^2 cancels to 1e-16, and is then multiplied by T^2 <= 900
    assert distillation_loss(z, v, y, temperature, alpha).item() == pytest.approx(expected, rel=1e-10, abs=1e-11)


def test_the_divergence_is_a_mean_over_samples_and_not_over_classes_too():
    z, v, y = draws(1)
    trap = F.kl_div(F.log_softmax(z / 2, 1), F.softmax(v / 2, 1), reduction="sum") / z.numel()  # what "mean" divides by
    assert distillation_loss(z, v, y, 2.0, 1.0).item() == pytest.approx(5 * 4 * trap.item(), rel=1e-12)


def test_the_ends_of_alpha_are_labels_alone_and_a_teacher_alone():
    z, v, y = draws(2)
    assert distillation_loss(z, v, y, 3.0, 0.0).item() == F.cross_entropy(z, y).item()
    assert distillation_loss(v, v, y, 3.0, 1.0).item() == 0
    other = distillation_loss(z, v, (y + 1) % 5, 3.0, 1.0)
    assert other.item() == distillation_loss(z, v, y, 3.0, 1.0).item() > 0


@given(st.integers(0, 99), st.floats(0.5, 20.0))
def test_the_soft_gradient_is_t_times_the_difference_of_the_softened_outputs(seed, temperature):
    # d/dz T^2 KL = T (q(z) - q(v)): the square is what keeps it of one size, since the difference goes as 1 / T.
    z, v, y = draws(seed)
    expected = temperature * (F.softmax(z / temperature, 1) - F.softmax(v / temperature, 1)) / len(z)
    torch.testing.assert_close(gradient(z, v, y, temperature, 1.0), expected, rtol=1e-9, atol=1e-13)
    scaled = distillation_loss(temperature * z, temperature * v, y, temperature, 1.0)
    assert scaled.item() == pytest.approx(temperature**2 * distillation_loss(z, v, y, 1.0, 1.0).item(), rel=1e-10)


def test_at_high_temperature_it_matches_logits():
    z, v, y = draws(3)
    centered = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    expected = centered / z.shape[1] / len(z)
    errors = [(gradient(z, v, y, T, 1.0) - expected).abs().max().item() for T in (1e2, 1e3, 1e4)]
    # The next term of the expansion of the softmax is (z^2 - v^2) / T of the first: below 40 / T here, and falling as 1 / T.
    assert errors[0] < 0.4 * expected.abs().max()
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.1) and errors[2] == pytest.approx(errors[0] / 100, rel=0.1)


def test_no_gradient_goes_to_the_teacher():
    z, v, y = (each.requires_grad_() if each.is_floating_point() else each for each in draws(5))
    distillation_loss(z, v, y, 2.0, 0.9).backward()
    assert z.grad.abs().sum() > 0 and v.grad is None


def test_losses_that_cannot_be_are_refused():
    z, v, y = draws(4)
    for temperature, alpha in ((0.0, 0.5), (-1.0, 0.5), (float("inf"), 0.5), (2.0, 1.1), (2.0, -0.1), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match=r"temperature must be positive and alpha in \[0, 1\]"):
            distillation_loss(z, v, y, temperature, alpha)
    with pytest.raises(ValueError, match=r"of one shape \(n, n_classes\); got \(6, 5\) and \(6, 4\)"):
        distillation_loss(z, v[:, :4], y, 2.0, 0.5)


# --- the raised bias


@given(st.integers(0, 199), st.integers(0, 4), st.integers(1, 29))
def test_a_shifted_class_is_predicted_as_often_as_asked(seed, column, count):
    z, _, _ = draws(seed, n=30)
    raised = z.clone()
    raised[:, column] += bias_shift(z, column, count)
    assert int((raised.argmax(1) == column).sum()) == count


def test_the_shift_is_midway_between_the_two_that_bound_it():
    # The second class lacks 1, 4 and 9 to be the largest of three samples.
    z = torch.tensor([[3.0, 2.0, 0.0], [1.0, 1.0, 5.0], [9.0, 0.0, -2.0]])
    assert (bias_shift(z, 1, 1), bias_shift(z, 1, 2)) == (2.5, 6.5)
    assert bias_shift(z, 0, 1) == (-9.0 - 1.0) / 2  # predicted twice, and to be once
    for wrong in ((3, 1), (-1, 1), (0, 0), (0, 3)):
        with pytest.raises(ValueError, match="one of the classes and a count from 1 to n - 1"):
            bias_shift(z, *wrong)


# --- the method


@pytest.fixture(scope="module")
def digits():
    return first(mnist5k(), 1000)


@pytest.fixture(scope="module")
def teacher(digits):
    return train(mlp((784, 60, 10)), digits.x_train, digits.y_train, epochs=8, batch_size=50)


@pytest.fixture
def tiny(monkeypatch):
    """Teachers of 12 and 11 units, in place of 1200 and 1200."""
    monkeypatch.setattr(method, "TEACHER", (12, 11))
    return QUICK | {"epochs": 1, "teacher_epochs": 2}


def test_it_trains_a_teacher_a_student_on_labels_and_one_on_soft_targets(digits, tiny):
    student = mlp((784, 9, 10), seed=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    result, again = (method.run(student, digits, **tiny, seed=2) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert result.rows == again.rows and [row["step"] for row in result.rows] == ["teacher", "labels", "distilled"]
    assert [row["parameters"] for row in result.rows] == [12 * 785 + 11 * 13 + 10 * 12, 9 * 785 + 100, 9 * 785 + 100]
    assert len({row["loss"] for row in result.rows}) == 3 and not result.model.training
    assert result.settings["teacher"] == "12-11" and result.masks == {}
    alone = method.run(student, digits, **tiny, control=False, seed=2)
    assert alone.rows == (result.rows[0], result.rows[2])


def test_the_teacher_sees_moved_digits_and_half_of_its_units(digits, tiny, monkeypatch):
    seen = []

    def look(model, inputs, labels, **more):
        seen.append((more["label"], [m.p for m in model.modules() if isinstance(m, nn.Dropout)], more.get("augment")))
        return train(model, inputs, labels, **more)

    monkeypatch.setattr(method, "train", look)
    method.run(mlp((784, 9, 10)), digits, **tiny)
    method.run(mlp((784, 9, 10)), digits, **tiny, jitter=0)
    assert [label for label, _, _ in seen] == ["training the teacher", "training on labels", "distilling"] * 2
    assert [p for _, p, _ in seen] == [[0.5, 0.5], [], []] * 2
    moved = seen[0][2](digits.x_train[:40], torch.Generator().manual_seed(0))
    for image, came in zip(digits.x_train[:40], moved, strict=True):
        padded = F.pad(image[None], (2, 2, 2, 2), mode="reflect")[0]
        assert any(torch.equal(came, padded[:, i : i + 28, j : j + 28]) for i in range(5) for j in range(5))
    assert not torch.equal(moved, digits.x_train[:40])
    assert not any(augment for _, _, augment in [*seen[1:3], *seen[3:]])


def test_without_soft_targets_it_is_the_student_trained_on_labels(digits, teacher):
    result = method.run(mlp((784, 9, 10)), digits, teacher, **QUICK, alpha=0.0)
    labels, distilled = result.rows[1:]
    assert labels | {"step": ""} == distilled | {"step": ""}


def test_a_teacher_may_be_frozen(digits, teacher):
    frozen = copy.deepcopy(teacher).requires_grad_(False)
    a, b = (method.run(mlp((784, 8, 10)), digits, which, epochs=1, control=False) for which in (teacher, frozen))
    assert all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))


def test_a_student_learns_from_its_teacher_alone(digits, teacher):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    teacher.train()
    wrong = dataclasses.replace(digits, y_train=(digits.y_train + 1) % 10)  # were they looked at, no digit would be right
    result = method.run(mlp((784, 30, 10)), wrong, teacher, epochs=16, batch_size=50, alpha=1.0)
    given, labels, distilled = result.rows
    assert distilled["accuracy"] > given["accuracy"] - 0.05 > 0.7 > 0.1 > labels["accuracy"]
    assert teacher.training and all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    teacher.eval()


def test_a_digit_that_the_student_never_saw_is_told_by_its_raised_bias(digits, teacher, monkeypatch):
    seen = []
    monkeypatch.setattr(method, "train", lambda m, x, *rest, **more: (seen.append(len(x)), train(m, x, *rest, **more))[1])
    student = mlp((784, 60, 10))
    result = method.run(student, digits, teacher, epochs=8, batch_size=50, without=3)
    threes = int((digits.y_train == 3).sum())
    assert seen == [len(digits.y_train) - threes] * 2
    given, labels, distilled, raised = result.rows
    assert [row["step"] for row in result.rows] == ["teacher", "labels", "distilled", "bias raised"]
    assert labels["class_errors"] == int((digits.y_test == 3).sum())  # what has never been a label is never said
    assert given["class_errors"] < raised["class_errors"] < distilled["class_errors"]
    assert raised["accuracy"] > distilled["accuracy"] and raised["shift"] > 0
    with torch.no_grad():
        found = int((result.model(digits.x_train).argmax(1) == 3).sum())
    assert abs(found - threes) <= 1  # a margin may be as near as the rounding of float32


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(digits, tiny, tmp_path, monkeypatch):
    student = mlp((784, 9, 10))
    whole = method.run(student, digits, **tiny, without=3)
    labels = []

    def cut(*args, label, **more):
        labels.append(label)
        if len(labels) == 3:
            raise KeyboardInterrupt
        return train(*args, label=label, **more)

    monkeypatch.setattr(method, "train", cut)
    with pytest.raises(KeyboardInterrupt):
        method.run(student, digits, **tiny, without=3, folder=tmp_path)
    resumed = method.run(student, digits, **tiny, without=3, folder=tmp_path)
    assert labels == ["training the teacher", "training on labels", "distilling", "distilling"]
    assert resumed.rows == whole.rows
    whole.save(tmp_path / "a")
    resumed.save(tmp_path / "b")
    for name in ("model.safetensors", "masks.safetensors", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "4.bias" not in load_file(tmp_path / "a" / "model.safetensors")  # the student, not the teacher
    for other in ({"without": 4}, {"teacher": mlp((784, 5, 10))}):
        with pytest.raises(ModelError, match="of other settings"):
            method.run(student, digits, **tiny | {"without": 3} | other, folder=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"alpha": 1.5},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"teacher_epochs": 1.5},
        {"jitter": -1},
        {"jitter": 28},
        {"without": -3},
        {"control": "no"},
        {"seed": -1},
        {"seed": 1.5},
    ],
)
def test_bad_settings_are_refused_by_name(digits, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        method.run(mlp((784, 9, 10)), digits, **wrong)


class Narrow(nn.Module):
    """Its logits come from a layer that is not the last one it holds, and the last is narrower."""

    def __init__(self):
        super().__init__()
        self.gives, self.beside = nn.Linear(784, 10), nn.Linear(784, 2)

    def forward(self, x):
        return self.gives(x.flatten(1)) + 0 * self.beside(x.flatten(1)).sum()


def test_teachers_and_students_that_do_not_fit_are_refused(digits):
    with pytest.raises(ModelError, match="teacher and student need as many logits; got 12 and 10"):
        method.run(mlp((784, 9, 10)), digits, mlp((784, 9, 12)))
    with pytest.raises(ModelError, match="does not take samples of shape"):
        method.run(mlp((784, 9, 10)), digits, mlp((785, 9, 10)))
    with pytest.raises(ModelError, match="a baseline needs a model"):
        method.run(mlp((784, 9, 10)), digits, "teacher")
    with pytest.raises(ModelError, match="must end with a linear layer with biases"):
        method.run(nn.Sequential(nn.Flatten(), nn.Linear(784, 10, bias=False)), digits, without=3)
    for bias in (5.0, -5.0):  # the ReLU on, or off, whatever the digit
        behind = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU())
        nn.init.constant_(behind[1].bias, bias)
        nn.init.zeros_(behind[1].weight)
        with pytest.raises(ModelError, match="must give its logits"):
            method.run(behind, digits, without=3)
    with pytest.raises(
        ModelError, match="of class 3, the last linear layer of the student must give its logits; it has 2 out"
    ):
        method.run(Narrow(), digits, without=3)
    with pytest.raises(DataError, match="need samples of class 11"):
        method.run(mlp((784, 9, 12)), digits, without=11)


def test_a_teacher_is_no_setting_of_the_command_line():
    assert baselines.method("distillation") is method
    found = baselines.settings("distillation")
    assert "teacher" not in found and set(found) >= {"temperature", "alpha", "without", "jitter"}


# --- the study


def test_the_study_goes_on_where_it_was(digits, tiny, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study.csv"
    monkeypatch.setattr(study, "load", lambda name: digits)
    monkeypatch.setattr(study, "STUDENT", (784, 8, 10))
    monkeypatch.setattr(study, "SMALL", (784, 4, 10))
    asked = [
        "study",
        "--seeds",
        "0",
        "1",
        "--few-seeds",
        "1",
        "--epochs",
        "1",
        "--teacher-epochs",
        "1",
        "--temperatures",
        "20",
        "--small-temperatures",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", [*asked, "8", "--networks", str(tmp_path), "--out", str(out)])
    study.main()
    whole, shown = out.read_bytes(), capsys.readouterr().out
    found = [(row["student"], row["temperature"], row["without"], row["seed"], row["step"]) for row in rows.read(out)]
    assert found == [
        *[("784-8-10", "20", "", seed, step) for seed in "01" for step in ("teacher", "labels", "distilled")],
        *[("784-8-10", "20", "3", "0", step) for step in ("teacher", "distilled", "bias raised")],
        *[("784-4-10", "2", "", "0", step) for step in ("teacher", "labels", "distilled")],
        *[("784-4-10", "8", "", "0", step) for step in ("teacher", "distilled")],
    ]
    assert "bias raised" in shown and "784-4-10" in shown
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    monkeypatch.setattr(method, "train_teacher", None)  # it is read from the folder
    study.main()
    assert out.read_bytes() == whole
