"""What follows a layer comes from the traced graph, however ReLU is spelled."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

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
    assert kinds(nn.Sequential(nn.ConvTranspose2d(3, 3, 2), nn.ReLU(), nn.Conv2d(3, 2, 1))) == {"0": None, "2": "linear"}


def test_a_weight_that_is_computed_anew_in_every_pass_is_left_alone():
    model = small()
    prune.l1_unstructured(model[1], "weight", 0.5)
    assert kinds(model) == {"1": None, "4": "relu", "6": "linear"}
    assert "computes its weight from other parameters" in trace(model).layers[0].note
    prune.remove(model[1], "weight")
    assert kinds(model)["1"] == "relu"


def test_dropout_that_stays_on_is_not_looked_through():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 2)

        def forward(self, x):
            return nn.functional.dropout(self.a(x), 0.5, True).relu()

    assert kinds(Noisy()) == {"a": "linear"}


def test_a_model_that_does_not_trace_is_linear_and_says_so_or_does_as_told():
    graph = trace(Branching())
    assert not graph.traced
    assert not graph.chain
    assert graph.layers[0].activation == "linear"
    assert graph.layers[0].note.startswith(
        "treated as linear: Branching cannot be traced by torch.fx (TraceError: symbolically"
    )
    (told,) = trace(Branching(), {"a": "relu"}).layers
    assert (told.activation, told.note) == ("relu", "treated as relu, as told")


@pytest.mark.parametrize(
    ("model", "activations", "message"),
    [
        (Branching(), {"b": "relu"}, "must name a layer that can be trimmed, as 'relu' or 'linear'; there are a"),
        (Branching(), {"a": "tanh"}, r"activations=\{'a': 'tanh'\} must name a layer"),
        (Odd(), {"twice": "relu"}, "it is called 2 times; there are gate, fork, last"),
    ],
)
def test_a_bad_map_of_activations_is_refused(model, activations, message):
    with pytest.raises(ModelError, match=message):
        trace(model, activations)


class Normed(nn.Module):
    """Normalizations before a ReLU, before a sum, after a ReLU, of tokens, without numbers of their own, and used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c, self.norm_c = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)
        self.d, self.e, self.twice = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.norm_f, self.f = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        x = self.norm_a(self.a(x)).relu()
        x = torch.relu(x + self.norm_b(self.b(x)))
        x = self.norm_c(self.c(x)).relu()
        x = self.twice(self.e(self.twice(self.d(x)).relu())).relu()
        return self.f(self.norm_f(x))


def test_normalizations_are_folded_where_that_is_the_same():
    graph = trace(Normed().eval())
    uses = {use.name: use for use in graph.layers}
    assert graph.folds == {"a": "norm_a", "b": "norm_b"}
    assert uses["a"].activation == "relu"
    assert uses["b"].activation == "linear"
    assert uses["b"].note == "treated as linear: followed by add, not by ReLU alone"
    assert uses["c"].note == "treated as linear: followed by BatchNorm2d, not by ReLU alone"
    assert (uses["twice"].activation, uses["norm_f"].activation) == (None, None)
    assert [use.name for use in graph.layers if use.last] == ["f"]


def test_a_relu_after_pooling_or_joining_counts_and_one_after_averaging_does_not():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Conv2d(8, 2, 1)
            self.most, self.mean = nn.MaxPool2d(2), nn.AvgPool2d(2)

        def forward(self, x):
            x = torch.relu(torch.cat([self.most(self.a(x)), nn.functional.max_pool2d(self.b(x), 2)], 1))
            return torch.relu(self.mean(self.c(x)))

    assert kinds(Pooled()) == {"a": "relu", "b": "relu", "c": "linear"}


@pytest.mark.parametrize(("activation", "kind"), [("relu", "relu"), (nn.ReLU(), "relu"), ("gelu", "linear")])
def test_a_transformer_layer_is_known_from_inside(activation, kind):
    block = nn.TransformerEncoderLayer(8, 2, 16, activation=activation, batch_first=True)
    uses = {use.name: use for use in trace(nn.Sequential(block, nn.Linear(8, 3)).eval()).layers}
    assert list(uses) == [
        *(f"0.self_attn.{part}" for part in ("q", "k", "v", "out")),
        *("0.linear1", "0.linear2", "0.norm1", "0.norm2", "1"),
    ]
    assert uses["0.linear1"].activation == kind
    assert {uses[f"0.self_attn.{part}"].activation for part in "qkv"} == {"linear"}
    assert uses["0.norm1"].note == "LayerNorm is not supported"
