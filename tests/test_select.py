"""Patterns name layers, or are refused with the layers that there are."""

import pytest

from nettrim import ModelError, trim
from nettrim.select import by_layer, chosen, matching
from tests.networks import samples, small

KINDS = {"conv": "Conv2d", "block.conv": "Conv2d", "block.fc": "Linear", "blocks.fc": "Linear"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", set(KINDS)),
        ("conv", {"conv"}),
        ("Conv2d", {"conv", "block.conv"}),
        ("block", {"block.conv", "block.fc"}),
        ("re:^block", {"block.conv", "block.fc", "blocks.fc"}),
        ("re:fc$", {"block.fc", "blocks.fc"}),
    ],
)
def test_a_pattern(pattern, names):
    assert matching(pattern, KINDS) == names


def test_targets_less_what_is_ignored():
    assert chosen(KINDS, None, ()) == set(KINDS)
    assert chosen(KINDS, ["Linear", "conv"], ["blocks"]) == {"block.fc", "conv"}
    assert chosen(KINDS, "Linear", "blocks") == {"block.fc"}
    with pytest.raises(ModelError, match=r"'Convd' names no layer; there are conv \(Conv2d\), block.conv"):
        chosen(KINDS, ["Convd"], ())
    with pytest.raises(ModelError, match="'nothing' names no layer"):
        chosen(KINDS, None, ["nothing"])


def test_the_first_pattern_that_names_a_layer_counts():
    assert by_layer(0.1, KINDS, "epsilon") == dict.fromkeys(KINDS, 0.1)
    spread = by_layer({"conv": 0.3, "Conv2d": 0.2, "*": 0.1}, KINDS, "epsilon")
    assert spread == {"conv": 0.3, "block.conv": 0.2, "block.fc": 0.1, "blocks.fc": 0.1}
    with pytest.raises(ModelError, match=r"epsilon says nothing of block\.fc, blocks\.fc; add"):
        by_layer({"Conv2d": 0.2}, KINDS, "epsilon")


def test_a_trim_does_as_patterns_say():
    result = trim(small(), samples(), {"1": 0.05, "*": 0.3}, ignore=["4"])
    rows = {row.name: row for row in result.layers}
    assert rows["1"].epsilon == pytest.approx(0.05)
    assert rows["6"].epsilon == pytest.approx(0.3)
    assert (rows["4"].status, rows["4"].note) == ("DENSE", "kept dense: is left out by targets or ignore")
    assert [row.status for row in trim(small(), samples(), 0.3, targets=["6"]).layers] == ["DENSE", "DENSE", "SOLVED"]
