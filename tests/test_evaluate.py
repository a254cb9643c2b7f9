"""How good a model is: counts and losses made by hand, and modes that come back."""

import math

import pytest
import torch
from torch import nn

from nettrim.evaluate import accuracy, evaluate, evaluating


def test_accuracy_counts_and_restores_the_modes():
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9)).train()
    model[0].eval()
    logits = torch.eye(4)
    assert accuracy(model, logits, torch.tensor([0, 1, 2, 0]), batch_size=3) == 0.75
    assert [module.training for module in model.modules()] == [True, False, True]
    with pytest.raises(ValueError, match="as many labels as inputs"):
        accuracy(model, logits, torch.zeros(3))
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model.training


def test_a_score_is_what_can_be_counted_by_hand():
    model = nn.Identity()
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [math.log(4.0), 0.0]])
    score = evaluate(model, logits, torch.tensor([1, 1, 1]), batch_size=2)
    # Probabilities of the label: 3/4, 1/2 (a tie, the first class wins), 1/5. The logits are float32: relative 2^-24 each.
    assert score.errors == 2 and score.accuracy == pytest.approx(1 / 3)
    assert score.loss == pytest.approx(math.log(4 / 3 * 2 * 5) / 3, rel=1e-6)
    assert score.accuracy == accuracy(model, logits, torch.tensor([1, 1, 1]))
    with pytest.raises(ValueError, match="as many labels as inputs"):
        evaluate(model, logits, torch.tensor([1]))
    for look in (accuracy, evaluate):  # labels (n, 1) would be compared with every sample
        with pytest.raises(ValueError, match=r"labels must be class numbers, shape \(n,\); got shape \(3, 1\)"):
            look(model, logits, torch.tensor([[1], [1], [1]]))
