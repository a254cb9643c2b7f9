"""What a trim says of the theory: every statement that applies, true on trimmed models, and able to be false."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from nettrim import load, trim
from nettrim.data import spirals
from nettrim.models import mlp
from nettrim.report import Checks
from nettrim.train import train
from tests.networks import Residual, samples, small
from theory import Check, parallel_bound


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.4])
@pytest.mark.parametrize(
    ("how", "statements"),
    [
        ({}, ["Theorem 1, from the errors reached, spectral norms", "Theorem 1, l1 norms"]),
        ({"penalize_bias": False}, ["Theorem 1, l1 norms"]),
        ({"rounds": 1, "refit": True}, ["Theorem 1, from the errors reached, Frobenius norms"]),
        (
            {"scheme": "cascade", "gamma": 1.1},
            ["the last program", "Theorem 2, spectral norms", "Theorem 2, Frobenius norms"],
        ),
        ({"scheme": "cascade", "gamma": 1.1, "kappa": 0.99}, ["Theorem 2, spectral norms"]),
        ({"scheme": "cascade"}, ["the last program"]),
    ],
)
def test_every_statement_holds(seed, epsilon, how, statements):
    torch.manual_seed(seed)
    result = trim(small(), samples(150), epsilon, **how)
    assert result.solved
    found = result.check_theory()
    assert found.hold, str(found)
    assert set(statements) <= {check.source for check in found}
    assert ("Theorem 1, l1 norms" in {check.source for check in found}) == (not how.get("rounds") and "scheme" not in how)
    layers = [check for check in found if check.name.startswith("response error")]
    assert len(layers) == (3 if "scheme" not in how else 2)  # the last layer is linear
    assert all(0 < check.tightness <= 1 + check.slack for check in found)
    output = next(check for check in found if check.name == "output error")
    assert output.measured == result.output_error
    assert output.promised == result.bound


def test_a_promise_that_is_broken_is_seen():
    found = trim(small(), samples(150), 0.1).check_theory()
    for place, check in enumerate(found):
        broken = Checks([*found[:place], dataclasses.replace(check, measured=1.01 * (1 + check.slack) * check.promised)])
        assert not broken.hold
        assert "NO" in str(broken)


def test_nothing_is_said_of_the_output_where_nothing_is_known():
    graph = trim(Residual(), samples(150), 0.1).check_theory()
    part = trim(small(), samples(150), 0.1, ignore=["4"]).check_theory()
    for found in (graph, part):
        assert {check.name.split()[0] for check in found} == {"response"}
    unmet = trim(small(), samples(150), 0.1, max_iter=1)
    assert not unmet.solved
    assert all(check.name != "output error" for check in unmet.check_theory())


def test_one_layer_without_its_certificate_silences_the_output():
    # Within 1.5 times the norm of the responses weights of 0 will do, found in one iteration; the middle layer needs more.
    result = trim(small(), samples(150), {"4": 0.05, "*": 1.5}, max_iter=1)
    assert [row.status for row in result.layers] == ["SOLVED", "UNMET", "SOLVED"]
    assert all(check.name != "output error" for check in result.check_theory())


@pytest.mark.parametrize("priced", [True, False])
def test_the_norm_of_theorem_1_is_of_all_that_is_priced(priced):
    model = small()
    found = trim(model, samples(150), 0.1, penalize_bias=priced).check_theory()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    with torch.no_grad():
        rows = [[layer.weight.T, layer.bias[None]] if priced else [layer.weight.T] for layer in linear]
        weights = [torch.cat(parts).double().numpy() for parts in rows]
    radii = [check.promised for check in found if check.name.startswith("response error")]
    (promised,) = (check.promised for check in found if check.source == "Theorem 1, l1 norms")
    assert promised == pytest.approx(parallel_bound(weights, radii), rel=1e-6)


def test_wrong_bounds_are_caught_on_a_trained_network():
    data = spirals()
    model = train(mlp((2, 200, 200, 2)), data.x_train, data.y_train, epochs=150, batch_size=50)
    weights = [module.weight.detach().double().numpy() for module in model.modules() if isinstance(module, nn.Linear)]
    first = trim(model, data.x_train, 0.02, targets=["1"])  # whose error the later layers amplify
    error, measured = first.layers[0].error, first.output_error
    for norm, (size, right) in {
        "spectral": (lambda W: np.linalg.norm(W, 2), True),
        "dropped": (lambda W: 1.0, False),
        "largest entry": (lambda W: np.abs(W).max(), False),
        "Frobenius, a rank": (lambda W: np.linalg.norm(W) / np.sqrt(min(W.shape)), False),
    }.items():
        promised = error * size(weights[1]) * size(weights[2])
        assert Check("output error", f"Theorem 1, {norm}", measured, promised, 0.01).holds == right
    cascade = trim(model, data.x_train, 0.1, scheme="cascade", gamma=1.1)
    (right,) = (check for check in cascade.check_theory() if check.source == "Theorem 2, spectral norms")
    assert cascade.solved and right.holds
    norms = np.linalg.norm(weights[1], 2) * np.linalg.norm(weights[2], 2)
    assert not dataclasses.replace(right, source="Theorem 2, norms dropped", promised=right.promised / norms).holds


@pytest.mark.parametrize("scheme", [{}, {"scheme": "cascade", "gamma": 1.1}])
@pytest.mark.parametrize("epsilon", [0.0, {"1": 0.0, "*": 0.1}])
def test_rounding_at_radius_0_breaks_no_promise(epsilon, scheme):
    found = trim(small(), samples(150), epsilon, **scheme).check_theory()
    assert found.hold, str(found)


def test_the_rule_of_gamma_is_not_that_of_a_sparsity():
    found = trim(small(), samples(150), sparsity=0.5, scheme="cascade", gamma=1.1).check_theory()
    assert not any("Theorem 2" in check.source for check in found)


def test_they_are_saved_and_printed(tmp_path):
    result = trim(small(), samples(150), 0.1)
    result.save(tmp_path)
    again = load(tmp_path, small()).check_theory()
    assert again == result.check_theory()
    assert again.to_json() == result.check_theory().to_json()
    assert "statements hold" in str(again)
    assert "Proposition 1" in str(again)
    rows = [{**Check("a", "b", 1.0, 1.0).to_json(), "measured": None, "promised": None}]
    assert not Checks.from_json(rows).hold
