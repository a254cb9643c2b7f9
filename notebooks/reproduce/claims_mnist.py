"""The claims of Net-Trim about 784-300-1000-100-10 on MNIST, each with the condition under which it is reproduced."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from functools import partial

from benchmarks.baselines._tables import numbers, percent
from reproduce.claim import Claim, Found, command, of_figure
from reproduce.gains import GAINED
from reproduce.labelless import LABELLESS, UNPRUNED, WAYS

GROUP = "the authors' group, 2017"
Rows = list[Mapping[str, str]]


def mean(rows: Rows, field: str) -> float:
    """Return the mean of a field over networks."""
    return statistics.fmean(numbers(rows, field))


def without_fine_tuning() -> Found:
    """Judge the gains that leave 10 to 25 %: in all Net-Trim has lost 3 points at most, and HPTD half; means of networks."""
    of: dict[str, Rows] = defaultdict(list)
    for row in GAINED.read():
        if row["hptd"]:
            of[row["gain"]].append(row)
    sparse = [rows for rows in of.values() if 0.1 <= mean(rows, "kept") <= 0.25]
    if not sparse:
        return Found("no gain leaves 10 to 25 %", False)
    apart = [
        mean(rows, "nettrim") >= mean(rows, "accuracy") - 0.03 and mean(rows, "hptd") <= mean(rows, "accuracy") / 2
        for rows in sparse
    ]
    last = min(sparse, key=lambda rows: mean(rows, "kept"))
    text = (
        f"{percent(last, 'accuracy')} before; at {percent(last, 'kept', 1)} of the weights "
        f"Net-Trim {percent(last, 'nettrim')}, HPTD {percent(last, 'hptd')}"
    )
    return Found(text, all(apart) or (None if any(apart) else False))


def removed(ways: tuple[str, ...], tuned: bool, alike: bool) -> Found:
    """Judge: over 95 % of the weights removed at no lower test accuracy; in part over 90 %, or a tenth of a point lost.

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
    cut, lost = 100 - 100 * mean(rows, "kept") / mean(rows, "before"), mean(whole, against) - mean(rows, field)
    text = (
        f"{cut:.1f} % removed ({way}, radius {epsilon}): {percent(whole, against)} {'unpruned' if alike else 'before'}, "
        f"{percent(rows, field)} after, HPTD {percent(rows, field.replace('nettrim', 'hptd'))}"
    )
    return Found(text, True if cut > 95 and lost <= 0 else None if cut > 90 and lost <= 0.001 else False)


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
    *(
        Claim(
            GROUP,
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
                "more than 95 % of the weights for MNIST are removed without loss (784-300-1000-100-10 trained with l1, as "
                "published, one fine-tuning; the radius is chosen by validation images)",
                "95 %",
                ALL[:1],
                True,
                False,
            ),
            (
                "the same held against the unpruned network fine-tuned alike, which is more than is claimed; also in a "
                "cascade, reweighted and refitted",
                "",
                ALL,
                True,
                True,
            ),
            ("the same without labels and without retraining", "", ALL, False, False),
        )
    ),
)
