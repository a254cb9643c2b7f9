"""What follows a layer comes from the traced graph, however ReLU is spelled."""

import pytest
from torch import nn

from nettrim import ModelError
from nettrim.graph import trace
from nettrim.models import lenet5, lenet300
from tests.networks import Branching, Functional, Odd, OneReLU, Residual, Tied, small


def kinds(model):
    return {use.name: use.activation for use in trace(model.eval()).layers}


def test_relu_in_every_spelling():
    assert kinds(Functional()) == {"first": "relu", "second": "relu", "third": "relu", "last": "linear"}
    assert kinds(OneReLU()) == {"a": "relu", "b": "relu", "c": "linear"}
    assert kinds(small()) == {"1": "relu", "4": "relu", "6": "linear"}


def test_layers_come_in_the_order_in_which_they_run():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(5, 2), nn.Linear(3, 5)

        def forward(self, x):
            return self.last(self.first(x).relu())

    assert [use.name for use in trace(Backwards()).layers] == ["first", "last"]


@pytest.mark.parametrize(
    ("model", "chain"), [(small(), True), (Functional(), True), (lenet300(), True), (Residual(), False), (lenet5(), False)]
)
def test_a_chain_is_told_from_other_graphs(model, chain):
    assert trace(model.eval()).chain is chain


def test_layers_that_must_stay_dense_say_why():
    notes = {use.name: (use.activation, use.note) for use in trace(Odd()).layers}
    assert notes["twice"] == (None, "is called 2 times")
    assert notes["never"] == (None, "is never called")
    assert notes["gate"][0] == "linear"
    assert "sigmoid" in notes["gate"][1]
    assert notes["fork"][0] == "linear"
    assert "not by ReLU alone" in notes["fork"][1]
    assert kinds(Tied()) == {"a": None, "b": None, "c": "linear"}
    assert kinds(lenet5())["0"] is None


def test_dropout_that_stays_on_is_not_looked_through():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            return nn.functional.dropout(self.a(x), 0.5, True).relu()

    assert kinds(Noisy()) == {"a": "linear"}


def test_a_model_that_does_not_trace_is_refused_by_name():
    with pytest.raises(ModelError, match=r"Branching cannot be traced.*control flow"):
        trace(Branching())
