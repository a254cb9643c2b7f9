"""Verdicts about 784-300-1000-100-10 on MNIST follow from rows by the conditions that are said there."""

import pytest
from reproduce import claims_mnist


def gain(value, kept, nettrim, hptd, seed="0", **more):
    told = {"seed": seed, "gain": value, "before": "0.8", "kept": kept, "accuracy": "0.9", "nettrim": nettrim, "hptd": hptd}
    return told | {"solved": "True"} | more


WHOLE = gain("0", "1", "0.9", "")


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([gain("0.1", "0.16", "0.88", "0.3"), gain("0.2", "0.11", "0.5", "0.3")], True),  # the second removes over 85 %
        ([gain("0.1", "0.16", "0.88", "0.3"), gain("0.2", "0.11", "0.5", "0.5")], None),  # where HPTD stays low too
        ([gain("0.1", "0.16", "0.88", "0.3"), gain("0.01", "0.6", "0.9", "0.9")], True),  # the second removes less
        ([gain("0.1", "0.16", "0.88", "0.3", solved="False")], None),
        ([gain("0.1", "0.16", "0.88", "0.3"), gain("0.2", "0.13", "0.88", "0.6")], None),
        ([gain("0.1", "0.16", "0.88", "0.6")], False),
        ([gain("0.1", "0.16", "0.86", "0.1")], False),  # Net-Trim has lost more than 3 points itself
        ([gain("0.1", "0.3", "0.9", "0.1")], False),  # nothing is as sparse as asked
        ([gain("0.1", "0.16", "0.86", "0.5"), gain("0.1", "0.16", "0.89", "0.3", "1")], True),  # of networks the mean
    ],
)
def test_net_trim_without_fine_tuning_is_held_against_half_of_hptd(monkeypatch, rows, same):
    monkeypatch.setattr(type(claims_mnist.GAINED), "read", lambda self: [WHOLE, *rows])
    assert claims_mnist.without_fine_tuning().same is same


@pytest.mark.parametrize(("a", "b", "same"), [("0.3", "0.3", True), ("0.3", "0.6", None), ("0.5", "0.6", False)])
def test_other_trainings_are_judged_each(monkeypatch, a, b, same):
    rows = [gain("0.1", "0.1", "0.88", of, training=name) for name, of in (("a", a), ("b", b))]
    rows += [gain("0.4", "0.1", "0.5", "0.9", training="a"), WHOLE | {"training": "a"}]
    monkeypatch.setattr(type(claims_mnist.TRAINED), "read", lambda self: rows)
    found = claims_mnist.of_other_trainings()
    rows[1]["solved"] = "False"
    assert claims_mnist.of_other_trainings().same is (None if same else same)
    assert found.same is same and found.text.startswith("a: 87.5 % removed, 90.00 % before, Net-Trim 88.00 %, HPTD ")
    monkeypatch.setattr(type(claims_mnist.TRAINED), "read", lambda self: rows[2:])
    assert claims_mnist.of_other_trainings().same is False  # no row at the gain


@pytest.mark.parametrize(("second", "same"), [("0.903", None), ("0.901", False), ("0.899", False)])
def test_generalization_is_judged_on_the_mean_of_networks_at_the_best_gain(monkeypatch, second, same):
    rows = [gain("0.1", "0.7", "0.899", "0.1"), gain("0.1", "0.7", second, "0.1", "1"), gain("0.2", "0.1", "0.5", "0.1")]
    monkeypatch.setattr(type(claims_mnist.GAINED), "read", lambda self: [WHOLE, *rows])
    assert claims_mnist.generalizes().same is same
    rows = [gain("0.1", "0.7", nettrim, "0.1", seed) for nettrim, seed in (("0.902", "0"), ("0.901", "1"))]
    monkeypatch.setattr(type(claims_mnist.GAINED), "read", lambda self: [WHOLE, *rows])
    assert claims_mnist.generalizes().same is True  # by more than the standard error


def of_way(way, epsilon, kept, scores, seed="0"):
    """Return a row: accuracies in points over 90 % as Net-Trim left it and fine-tuned, of validation and test images."""
    names = ("nettrim_validation", "nettrim", "nettrim_tuned_validation", "nettrim_tuned")
    told = {"way": way, "epsilon": epsilon, "seed": seed, "before": "0.8", "kept": kept, "hptd": "0.5", "hptd_tuned": "0.6"}
    told["solved"] = "True"
    return told | {name: str(0.9 + score / 100) for name, score in zip(names, scores, strict=True)}


UNPRUNED = of_way(claims_mnist.UNPRUNED, "0", "1", (1, 1, 2, 2))
PUBLISHED, _, BEST = claims_mnist.ALL


@pytest.mark.parametrize(
    ("kept", "test", "same"),
    [
        ("0.03", 1, True),
        ("0.06", 1, None),
        ("0.03", 0.95, None),
        ("0.06", 0.95, None),
        ("0.03", 0.8, False),
        ("0.06", 0.8, False),
        ("0.2", 1, False),
    ],
)
def test_what_is_removed_without_loss_is_chosen_by_validation_and_judged_by_test(monkeypatch, kept, test, same):
    rows = [
        UNPRUNED,
        of_way(PUBLISHED, "0.1", kept, (0, 0, 1, test)),
        of_way(PUBLISHED, "0.2", "0.01", (0, 0, 0.9, 5)),  # sparser, and worse on validation images
        of_way(PUBLISHED, "0.05", "0.5", (0, 0, 5, 5)),
        of_way(BEST, "0.1", "0.001", (0, 0, 5, 5)),  # not as published
    ]
    monkeypatch.setattr(type(claims_mnist.LOSSLESS), "read", lambda self: rows)
    found = claims_mnist.removed((PUBLISHED,), tuned=True, alike=False)
    assert (
        found.same is same and f"{100 - 100 * float(kept) / 0.8:.1f} % removed" in found.text
    )  # what was 0 was not removed
    assert "91.00 % before" in found.text and "HPTD 60.00 %" in found.text
    rows[1]["solved"] = "False"
    assert claims_mnist.removed((PUBLISHED,), tuned=True, alike=False).same is (None if same else same)


def test_what_is_removed_is_held_against_the_same_fine_tuning_or_none_on_demand(monkeypatch):
    rows = [UNPRUNED, of_way(BEST, "0.1", "0.02", (1, 1, 1.91, 3)), of_way(PUBLISHED, "0.1", "0.03", (0, 0, 2, 2))]
    monkeypatch.setattr(type(claims_mnist.LOSSLESS), "read", lambda self: rows)
    assert f"({PUBLISHED}, radius 0.1): 92.00 % unpruned" in claims_mnist.removed(claims_mnist.ALL, True, True).text
    assert f"({BEST}, radius 0.1): 91.00 % before" in claims_mnist.removed(claims_mnist.ALL, False, False).text
    assert "HPTD 50.00 %" in claims_mnist.removed(claims_mnist.ALL, False, False).text
    rows[2]["nettrim_tuned_validation"] = "0.9191"  # as the other does: the sparsest of those that lose little
    found = claims_mnist.removed(claims_mnist.ALL, True, True)
    assert found.same is None and f"({BEST}, radius 0.1; all lose on the validation images): 92.00 % unpruned" in found.text
    rows[1]["nettrim_tuned_validation"] = rows[2]["nettrim_tuned_validation"] = "0.9189"
    assert claims_mnist.removed(claims_mnist.ALL, True, True) == (
        "every radius loses over a tenth of a point on the validation images",
        False,
    )


def test_of_several_networks_the_mean_decides_what_is_removed(monkeypatch):
    rows = [UNPRUNED, UNPRUNED | {"seed": "1"}]
    rows += [of_way(BEST, "0.1", "0.02", (1 + up, 1 - up, 0, 0), seed) for seed, up in (("0", 1), ("1", -1))]
    monkeypatch.setattr(type(claims_mnist.LOSSLESS), "read", lambda self: rows)
    assert claims_mnist.removed(claims_mnist.ALL, False, False).same is True
