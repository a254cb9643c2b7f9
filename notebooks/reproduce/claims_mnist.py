"""The claims of Net-Trim about 784-300-1000-100-10 on MNIST, each with the condition under which it is reproduced."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

from benchmarks.baselines._tables import numbers, percent
from reproduce.claim import Claim, Found, command, of_figure, without_loss
from reproduce.gains import GAINED
from reproduce.labelless import LABELLESS, UNPRUNED, WAYS
from reproduce.trainings import TRAININGS

GROUP = "the authors' group, 2017"
Rows = list[Mapping[str, str]]


def mean(rows: Rows, field: str) -> float:
    """Return the mean of a field over networks."""
    return statistics.fmean(numbers(rows, field))


def by_gain(rows: Iterable[Mapping[str, str]], *more: str) -> dict[tuple[str, ...], Rows]:
    """Return the rows of what was pruned, by gain and more fields."""
    of: dict[tuple[str, ...], Rows] = defaultdict(list)
    for row in rows:
        if row["hptd"]:
            of[tuple(row[field] for field in (*more, "gain"))].append(row)
    return of


def cut_of(rows: Rows) -> float:
    """Return what percentage is removed of the weights that were over 1e-6 before."""
    return 100 - 100 * mean(rows, "kept") / mean(rows, "before")


def apart(rows: Rows) -> bool:
    """Tell whether Net-Trim has lost 3 points at most, and magnitude pruning half, on the mean of the networks."""
    before = mean(rows, "accuracy")
    return mean(rows, "nettrim") >= before - 0.03 and mean(rows, "hptd") <= before / 2


def without_fine_tuning() -> Found:
    """Judge the gains that remove about 80 %, which are those of the paper by the review: 75 to 85 %; in part if some do."""
    about = [rows for rows in by_gain(GAINED.read()).values() if 75 <= cut_of(rows) <= 85]
    if not about:
        return Found("no gain removes 75 to 85 %", False)
    shown = (
        f"{cut_of(rows):.1f} % removed: {percent(rows, 'accuracy')} before, Net-Trim {percent(rows, 'nettrim')}, "
        f"HPTD {percent(rows, 'hptd')}"
        for rows in about
    )
    right = [apart(rows) for rows in about]
    return Found("; ".join(shown), all(right) or (None if any(right) else False))


def of_other_trainings() -> Found:
    """Judge the same at a gain of 0.1 of every training; in part if of some."""
    of = {key[0]: rows for key, rows in by_gain(TRAININGS.read(), "variant").items() if key[1] == "0.1"}
    shown = (f"{name}: {percent(rows, 'nettrim', 1)} and {percent(rows, 'hptd', 1)}" for name, rows in of.items())
    right = [apart(rows) for rows in of.values()]
    return Found("; ".join(shown), all(right) or (None if any(right) else False))


def generalizes() -> Found:
    """Judge: at some gain the test accuracy of the pruned networks is above that before, without fine-tuning."""
    best = max(by_gain(GAINED.read()).values(), key=lambda rows: mean(rows, "nettrim") - mean(rows, "accuracy"))
    text = f"at best {percent(best, 'accuracy')} to {percent(best, 'nettrim')}, {cut_of(best):.1f} % removed"
    return Found(text, mean(best, "nettrim") > mean(best, "accuracy"))


def removed(ways: tuple[str, ...], tuned: bool, alike: bool) -> Found:
    """Judge: over 95 % of the weights are removed without loss of test accuracy; in part over 90 %.

    The sparsest of the ways and radii that lose nothing on the validation images is judged, on the mean of the networks.

    Parameters
    ----------
    ways : tuple of str
        Of ``WAYS``.
    tuned : bool
        Whether it is fine-tuned once.
    alike : bool
        Whether it is held against the unpruned network fine-tuned alike, in place of the trained one.
    """
    of: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in LABELLESS.read():
        of[row["way"], row["epsilon"]].append(row)
    (whole,) = (rows for (way, _), rows in of.items() if way == UNPRUNED)
    field, against = ("nettrim_tuned" if each else "nettrim" for each in (tuned, alike))
    least = mean(whole, f"{against}_validation")
    good = {key: rows for key, rows in of.items() if key[0] in ways and mean(rows, f"{field}_validation") >= least}
    if not good:
        return Found("every radius loses on the validation images", False)
    (way, epsilon), rows = min(good.items(), key=lambda item: mean(item[1], "kept"))
    cut, kept = cut_of(rows), without_loss(100 * (mean(whole, against) - mean(rows, field)))
    text = (
        f"{cut:.1f} % removed ({way}, radius {epsilon}): {percent(whole, against)} {'unpruned' if alike else 'before'}, "
        f"{percent(rows, field)} after, HPTD {percent(rows, field.replace('nettrim', 'hptd'))}"
    )
    return Found(text, kept if cut > 95 else None if cut > 90 and kept is not False else False)


ALL = tuple(way for way in WAYS if way != UNPRUNED)
CLAIMS = (
    Claim(
        "a review of NIPS 2017",
        "Net-Trim stays accurate without fine-tuning, where magnitude pruning to its counts (HPTD) falls to a low plateau",
        "no numbers",
        command(GAINED),
        GAINED.minutes,
        of_figure(GAINED),
        without_fine_tuning,
        "05_mnist",
    ),
    Claim(
        "ours",
        "the same of networks of six trainings at a gain of 0.1: test accuracy of Net-Trim and of HPTD",
        "",
        command(TRAININGS),
        TRAININGS.minutes,
        of_figure(TRAININGS),
        of_other_trainings,
        "05_mnist",
    ),
    Claim(
        "NIPS 2017, abstract",
        "the generalization error is slightly lower after pruning (network of the scripts, not fine-tuned, the best gain)",
        "no numbers",
        command(GAINED),
        GAINED.minutes,
        of_figure(GAINED),
        generalizes,
        "05_mnist",
    ),
    *(
        Claim(
            GROUP if published else "ours",
            claim,
            published,
            command(LABELLESS),
            LABELLESS.minutes,
            of_figure(LABELLESS),
            partial(removed, ways, tuned, alike),
            "05_mnist",
        )
        for claim, published, ways, tuned, alike in (
            (
                "more than 95 % of the weights for MNIST are removed without loss (784-300-1000-100-10, one fine-tuning, "
                "the published program; trained with l1, the best of six trainings; validation images choose the radius)",
                "95 %",
                ALL[:1],
                True,
                False,
            ),
            (
                "the same held against the unpruned network fine-tuned alike; in a cascade and reweighted and refitted too",
                "",
                ALL,
                True,
                True,
            ),
            (
                "the same without labels in the programs and without retraining, held against the trained network",
                "",
                ALL,
                False,
                False,
            ),
        )
    ),
)
