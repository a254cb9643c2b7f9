"""Verdicts on the page of claims follow from rows by the conditions that are said there."""

import pytest
from reproduce import catalog, claims_images, claims_spirals, claims_theory, worked
from reproduce.claim import Claim, Found, certified, of_all, points, without_loss, worst
from reproduce.figure import RESULTS

FOLDER = RESULTS.parent


def test_the_page_of_claims_is_computed_from_the_committed_rows():
    assert catalog.PAGE.read_text(encoding="utf-8") == catalog.page()
    shown = {claim.where for claim in catalog.NET_TRIM if all(path.exists() for path in claim.files)}
    assert all((FOLDER / f"{name}.ipynb").exists() for name in shown)


def test_a_claim_without_rows_is_open(tmp_path):
    asked = ("a paper", "a claim", "1", "python x", 1, (tmp_path / "rows.csv",))
    claim = Claim(*asked, found=lambda: Found("2", False))
    assert claim.cells()[3:5] == ["", "open"]
    (tmp_path / "rows.csv").touch()
    assert claim.cells()[3:5] == ["2", "not reproduced"]


def test_verdicts_on_several_things():
    assert [of_all(right) for right in ([True, True], [True, False], [False], [])] == [True, None, False, False]
    assert worst(True, True) is True and worst(True, None) is None and worst(None, False) is False
    rows = [{"solved": "True"}, {"solved": ""}]  # a network that was not trimmed needs no certificate
    assert certified(rows) is True and certified([*rows, {"solved": "False"}]) is None


def test_no_rounding_of_floats_makes_a_loss():
    before, after = (
        [{"accuracy": str(score)} for score in scores] for scores in ((0.9884, 0.9802, 0.9881), (0.9885, 0.9801, 0.9881))
    )
    assert points(before, "accuracy") == points(after, "accuracy")
    assert without_loss(100 * (0.9778 - 0.9768)) is None  # a tenth of a point, and in floats more
    assert without_loss(0.100001) is False and without_loss(1e-5) is None and without_loss(100 * (0.3 - 0.1 - 0.2)) is True


@pytest.mark.parametrize(
    ("kept", "apart", "solved", "same"),
    [
        ("6", "0.04", "True", True),
        ("6", "0.06", "True", None),
        ("6", "0.2", "True", False),
        ("8", "0.04", "True", None),
        ("11", "0.04", "True", False),
        ("6", "0.04", "False", False),
    ],
)
def test_a_run_of_the_spirals_is_judged_by_what_it_removes_and_then_by_its_discrepancy(
    monkeypatch, kept, apart, solved, same
):
    row = {"run": "1", "before_2": "100", "after_2": "5", "discrepancy": "0.04", "solved": "True"}
    other = row | {"after_2": kept, "discrepancy": apart, "solved": solved}
    rows = [row, other, other, row | {"run": "2", "after_2": "99"}]
    monkeypatch.setattr(type(claims_spirals.spirals.RUNS), "read", lambda self: rows)
    assert claims_spirals.spiral_run("1", 93, 0.046).same is same


@pytest.mark.parametrize(("short", "same"), [((0, 0.9, -5), True), ((0, 9, 20), None), ((0, 11, 20), False)])
def test_tables_of_the_spirals_are_judged_size_by_size(monkeypatch, short, same):
    monkeypatch.setitem(claims_spirals.spirals.PUBLISHED_CUTS, "S.1", {10: 80, 20: 70, 30: 60})
    rows = [
        {"table": "S.1", "hidden": str(hidden), "kept": str((100 - cut + less + off) / 100)}
        for (hidden, cut), less in zip(((10, 80), (20, 70), (30, 60)), short, strict=True)
        for off in (-10, 0, 15)  # the median counts
    ]
    monkeypatch.setattr(type(claims_spirals.spirals.TABLES), "read", lambda self: [*rows, rows[0] | {"table": "S.2"}])
    found = claims_spirals.tables("S.1")
    assert found.same is same and found.text.startswith("80.0 [65.0, 90.0] / ")


def test_the_sweep_is_judged_by_means_between_radii(monkeypatch):
    def rows(cascade, parallel):
        for hidden, scheme in [(hidden, scheme) for hidden in ("50", "75", "100") for scheme in ("cascade", "parallel")]:
            for apart, left in ((0.0, 100), (0.4, cascade if scheme == "cascade" else parallel)):
                counts = {
                    f"{when}_{layer}": str(100 if when == "before" else left)
                    for when in ("before", "after")
                    for layer in (1, 2, 3)
                }
                told = {"hidden": hidden, "scheme": scheme, "seed": "0", "discrepancy": str(apart)}
                yield told | counts | {"solved": str(apart > 0)}

    for cascade, parallel, same in ((20, 60, True), (60, 20, False)):
        monkeypatch.setattr(
            type(claims_spirals.spirals.SWEEP), "read", lambda self, made=(cascade, parallel): list(rows(*made))
        )
        found = claims_spirals.cascade_is_sparser((3,))
        assert found.same is same and found.text.endswith("6 of 12 trims certified")
    assert claims_spirals.at_discrepancy("50", "cascade", 0.2, (1, 2)) == [pytest.approx((1 + 0.6) / 2)]


def test_schemes_are_compared_at_a_discrepancy_that_both_have(monkeypatch):
    def row(scheme, apart, kept, l1="0", seed="0"):
        told = {"l1": l1, "dropout": "0", "seed": seed, "scheme": scheme}
        return told | {"discrepancy": str(apart), "kept": str(kept), "solved": "True"}

    asked = claims_images.schemes.LENET_SCHEMES
    both = [row("cascade", 0.1, 0.2), row("cascade", 0.4, 0.1), row("parallel", 0.1, 0.3), row("parallel", 0.4, 0.2)]
    apart = [row("cascade", 0.1, 0.2, "1"), row("parallel", 0.2, 0.1, "1")]
    denser = [{**each, "l1": "2", "scheme": {"cascade": "parallel", "parallel": "cascade"}[each["scheme"]]} for each in both]
    dense = [both[0] | {"solved": "False"}, *both[1:]]
    cases = ((both, True), (both + apart, True), (both + denser, None), (denser, False), (apart, False), (dense, None))
    for rows, same in cases:
        monkeypatch.setattr(type(asked), "read", lambda self, made=rows: made if self is asked else [])
        assert claims_images.between_schemes(asked).same is same
    other = [row("cascade", 0.2, 0.5, seed="1"), row("cascade", 0.8, 0.3, seed="1")]
    other += [row("parallel", 0.05, 0.4, seed="1"), row("parallel", 0.4, 0.3, seed="1")]
    monkeypatch.setattr(type(asked), "read", lambda self: both + other)
    found = claims_images.between_schemes(asked)  # at the root of 0.2 x 0.4: of each network by its own curve
    at, kept = 0.2 * 2**0.5, lambda low, high, x, y, at: 100 * (x + (y - x) * (at - low) / (high - low))
    values = [
        kept(0.1, 0.4, 0.2, 0.1, at),
        kept(0.2, 0.8, 0.5, 0.3, at),
        kept(0.1, 0.4, 0.3, 0.2, at),
        kept(0.05, 0.4, 0.4, 0.3, at),
    ]
    cascade, parallel = (sum(values[:2]) / 2, sum(values[2:]) / 2)
    assert f"at 0.283: {cascade:.1f} (" in found.text and f"and {parallel:.1f} (" in found.text and found.same is False


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"kept": "90"}, None),
        ({"kept": "300"}, False),
        ({"kept": "68.4"}, True),  # 6.8 %
        ({"reached": "0.2"}, True),
        ({"nettrim_validation": "0.98"}, None),
        ({"nettrim_tuned": "0.9871"}, True),  # a loss of 0.29 as published, and in floats more
        ({"nettrim_tuned": "0.985"}, None),
        ({"nettrim_tuned": "0.98"}, False),
        ({"status": "UNMET"}, False),
    ],
)
@pytest.mark.parametrize("samples", [55_000, 10_000])
def test_the_worked_example_is_judged_by_every_network_s_weights_loss_and_certificate(monkeypatch, changed, same, samples):
    row = {"seed": "0", "layer": "8", "weights": "1000", "kept": "60", "status": "SOLVED", "reached": "0.15"}
    row |= {"accuracy": "0.99", "nettrim_validation": "0.985", "nettrim_tuned": "0.99"}
    example = type(claims_images.worked.EXAMPLE)
    monkeypatch.setitem(claims_images.worked.EXAMPLE.settings, "samples", samples)
    rows = [row | {"way": worked.CERTIFIED}, row | {"way": worked.CERTIFIED, "seed": "1"} | changed]
    rows += [row | {"way": worked.STOPPED, "kept": "900"}]
    monkeypatch.setattr(example, "read", lambda self: rows)
    found = claims_images.example(worked.CERTIFIED)
    assert found.same is (None if same and samples < 55_000 else same)  # fewer images ask for less
    assert ("not certified" in found.text) == ("status" in changed)


@pytest.mark.parametrize(("changed", "same"), [({}, None), ({"reached": "0.18"}, False), ({"kept": "120"}, False)])
def test_the_stopped_iteration_needs_no_certificate_but_the_published_error(monkeypatch, changed, same):
    row = {"seed": "0", "layer": "8", "weights": "1000", "kept": "60", "status": "UNMET", "reached": "0.17"}
    row |= {"accuracy": "0.99", "nettrim_validation": "0.985", "nettrim_tuned": "0.99", "way": worked.STOPPED}
    monkeypatch.setattr(type(worked.EXAMPLE), "read", lambda self: [row | changed, row | {"way": worked.CERTIFIED}])
    found = claims_images.example(worked.STOPPED)
    assert found.same is same and found.text.endswith("not certified")


@pytest.mark.parametrize(("larger", "same"), [(0, True), (40, None), (100, False)])
def test_an_order_of_samples_needs_one_constant_for_all_sizes(monkeypatch, larger, same):
    row = {"ensemble": "gaussian", "share": "0.95", "s": "1"}
    rows = [
        row | {"N": str(N), "P": str(P), "P_low": str(P - 2), "P_high": str(P + 2)}
        for N, P in ((100, 100), (200, 115 + larger))  # log 200 is 1.15 log 100
    ]
    less = {"N": "200", "s": "2", "P": "1", "P_low": "1", "P_high": "1"}
    misfits = [
        {"ensemble": "gaussian", "N": N, "share": share, "misfit": misfit}
        for N, share, misfit in (("100", "0.95", "0.9"), ("all", "0.5", "0.8"), ("all", "0.95", "0.4"))
    ]
    other = rows[1] | {"ensemble": "uniform", "P": "900", "P_low": "900", "P_high": "900"}
    of = {"recovery_lines.csv": [*rows, row | less, other], "recovery_constant.csv": misfits}
    monkeypatch.setattr(claims_theory, "read", lambda name: of[name])
    found = claims_theory.constant()
    assert found.same is same and "N = 100: c = 21.71 [21.28, 22.15]" in found.text
    assert found.text.endswith("by up to 40%")


@pytest.mark.parametrize(
    ("kept", "tuned", "same"),
    [
        ("0.09", "0.9", True),
        ("0.15", "0.9", None),
        ("0.3", "0.9", False),
        ("0.09", "0.899", None),
        ("0.3", "0.899", False),
        ("0.09", "0.898", False),
    ],
)
def test_of_convnets_the_sparsest_without_loss_decides(monkeypatch, kept, tuned, same):
    whole = {"gain": "0", "kept": "1", "accuracy": "0.9", "nettrim_tuned": "0.92", "hptd_tuned": "", "solved": ""}
    rows = [whole, whole | {"gain": "0.1", "kept": kept, "nettrim_tuned": tuned, "hptd_tuned": "0.89", "solved": "True"}]
    rows.append(rows[1] | {"gain": "0.2", "kept": "0.01", "nettrim_tuned": "0.89"})
    monkeypatch.setattr(type(claims_images.convnet.CIFAR), "read", lambda self: rows)
    found = claims_images.convolutional(claims_images.convnet.CIFAR, 90)
    assert found.same is same
    rows[1]["solved"] = "False"
    assert claims_images.convolutional(claims_images.convnet.CIFAR, 90).same is (None if same else same)
    assert "unpruned 92.00 %, HPTD 89.00 %" in found.text or (tuned, found.text) == ("0.898", "no gain is without loss")


@pytest.mark.parametrize(
    ("nettrim", "magnitude", "same"),
    [("00", "33", True), ("00", "03", None), ("00", "00", False), ("01", "33", False)],
)
def test_pixels_are_judged_where_they_are_never_active(monkeypatch, nettrim, magnitude, same):
    rows = [
        {"network": network, "gain": "0.1", "active": "0", "nettrim": trimmed, "magnitude": cut}
        for network, trimmed, cut in zip("ab", nettrim, magnitude, strict=True)
    ]
    other = [rows[0] | {"active": "0.5", "nettrim": "9", "magnitude": "9"}, rows[0] | {"gain": "0.2", "nettrim": "9"}]
    monkeypatch.setattr(type(claims_images.robustness.PIXELS), "read", lambda self: rows + other)
    found = claims_images.pixels()
    assert found.same is same and found.text.startswith("1 pixels") and f"magnitude pruning {magnitude[1]}" in found.text


def sized(epsilon, size, accuracy):
    names = ("trained", "Net-Trim", "magnitude")
    scores = dict.fromkeys((*names, *(f"{name}, fine-tuned" for name in names)), "0.9")
    files = {"dense": "100000000", "zipped": f"{size}000000", "sparse": "99000000"}
    return [
        {"epsilon": epsilon, "model": name, **files, "accuracy": score, "solved": "True"}
        for name, score in (scores | {"Net-Trim, fine-tuned": accuracy}).items()
    ]


@pytest.mark.parametrize(
    ("size", "accuracy", "same"),
    [
        ("4", "0.9", True),
        ("8", "0.9", None),
        ("4", "0.8991", None),
        ("4", "0.896", False),
        ("8", "0.5", False),
        ("20", "0.9", False),
    ],
)
def test_megabytes_count_only_without_loss(monkeypatch, size, accuracy, same):
    rows = sized("0.05", size, accuracy)
    monkeypatch.setattr(type(claims_images.size.SIZE), "read", lambda self: rows)
    assert claims_images.megabytes().same is same
    rows[4]["solved"] = "False"
    assert claims_images.megabytes().same is (None if same else same)


@pytest.mark.parametrize(
    ("sizes", "judged"),
    [("543", "0.01"), ("643", "0.02"), ("664", "0.1"), ("987", "0.1")],
)
def test_megabytes_are_judged_at_the_smallest_radius_that_is_small_enough(monkeypatch, sizes, judged):
    radii = ("0.01", "0.02", "0.1")
    rows = [row for radius, each in zip(radii, sizes, strict=True) for row in sized(radius, each, f"0.9{radius[-1]}")]
    monkeypatch.setattr(type(claims_images.size.SIZE), "read", lambda self: rows)
    found = claims_images.megabytes()
    assert found.text.startswith(f"radius {judged}: ") and f"9{judged[-1]}.00 % after one" in found.text
