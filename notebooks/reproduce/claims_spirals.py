"""The claims of Net-Trim about spirals, each with the condition under which the rows say that it was reproduced."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.baselines._tables import mean, numbers
from reproduce import spirals
from reproduce.claim import Claim, Found, of_all


def span(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and the least and the largest in brackets."""
    least, middle, most = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} [{least}, {most}]"


def spiral_run(run: str, removed: float, apart: float) -> Found:
    """Judge a run: of every network as much of layer 2 is removed, at no larger a discrepancy.

    In part, if the median network loses three points less, at up to twice the discrepancy.
    """
    rows = [row for row in spirals.RUNS.read() if row["run"] == run]
    cut = [100 - 100 * int(row["after_2"]) / int(row["before_2"]) for row in rows]
    error = numbers(rows, "discrepancy")
    text = f"{span(cut, 1)} % of layer 2 at a discrepancy of {span(error, 3)}; "
    certified = all(row["solved"] == "True" for row in rows)
    text += "every layer certified" if certified else "not every layer certified"
    whole = min(cut) >= removed and max(error) <= apart
    near = statistics.median(cut) >= removed - 3 and statistics.median(error) <= 2 * apart
    return Found(text, certified and (True if whole else None if near else False))


def at_discrepancy(hidden: str, scheme: str, apart: float, layers: Sequence[int]) -> list[float]:
    """Return, training by training, the fraction of some layers' weights left at a discrepancy, between radii by a line."""
    curves = defaultdict(list)
    for row in spirals.SWEEP.read():
        if (row["hidden"], row["scheme"]) == (hidden, scheme):
            before, after = (sum(int(row[f"{when}_{layer}"]) for layer in layers) for when in ("before", "after"))
            curves[row["seed"]].append((float(row["discrepancy"]), after / before))
    return [float(np.interp(apart, *zip(*sorted(points), strict=True))) for points in curves.values()]


def cascade_is_sparser(layers: Sequence[int]) -> Found:
    """Judge the sweep: in every size the cascade keeps fewer on the mean of the trainings, at both discrepancies."""
    shown, fewer = [], []
    for hidden, apart in itertools.product(("50", "75", "100"), (0.05, 0.2)):
        both = [at_discrepancy(hidden, scheme, apart, layers) for scheme in ("cascade", "parallel")]
        shown.append(" and ".join(f"{mean([100 * left for left in each], 1)} %" for each in both))
        fewer.append(statistics.fmean(both[0]) < statistics.fmean(both[1]))
    trims = [row for row in spirals.SWEEP.read() if row["scheme"] in ("cascade", "parallel")]
    shown.append(f"{sum(row['solved'] == 'True' for row in trims):,} of {len(trims):,} trims certified")
    return Found("; ".join(shown), of_all(fewer))


def tables(table: str) -> Found:
    """Judge a table: of every size as much is removed, to a point, by the median network; in part, of most to ten points."""
    shown, short = [], []
    for hidden, published in spirals.PUBLISHED_CUTS[table].items():
        rows = [row for row in spirals.TABLES.read() if (row["table"], row["hidden"]) == (table, str(hidden))]
        cuts = [100 - 100 * float(row["kept"]) for row in rows]
        shown.append(span(cuts, 1))
        short.append(published - statistics.median(cuts))
    most = sum(each <= 10 for each in short) > len(short) / 2
    return Found(" / ".join(shown) + " %", True if max(short) <= 1 else None if most else False)


def read_off(layer: int) -> str:
    """Return what the figure says of a layer, in the order in which the claim says it."""
    pairs = [pair for of in spirals.READ_OFF[layer].values() for pair in of.values()]
    fewer = sum(cascade < parallel for cascade, parallel in pairs)
    shown = "; ".join(f"{cascade} and {parallel} %" for cascade, parallel in pairs)
    return f"{shown}, read off the figure: fewer in {fewer} of {len(pairs)}"


def totals_read_off() -> str:
    """Return what the readings of layers 2 and 3 come to, weighed by their sizes; of layer 1 there are none."""
    fewer = [
        n * n * (second[0] - second[1]) + 2 * n * (third[0] - third[1]) < 0
        for n in spirals.READ_OFF[2]
        for second, third in zip(spirals.READ_OFF[2][n].values(), spirals.READ_OFF[3][n].values(), strict=True)
    ]
    return f"no totals; by the readings of the layers fewer in {sum(fewer)} of {len(fewer)}"


CLAIMS = (
    Claim.of(
        spirals.RUNS,
        "the authors' institution, 2017; NIPS 2017, run 1",
        "more than 93 % of the links between the hidden layers of a spiral classifier are removed",
        "93.3 % at 0.046",
        lambda: spiral_run("1", 93, 0.046),
        "01_spirals",
    ),
    Claim.of(
        spirals.RUNS,
        "NIPS 2017, Figure 1, run 2",
        "after training with dropout and l1 too (epsilon and kappa are not told; here the discrepancy led to them)",
        "85.8 % at 0.0183",
        lambda: spiral_run("2", 85.8, 0.0183),
        "01_spirals",
    ),
    *(
        Claim.of(
            spirals.SWEEP,
            "NIPS 2017, Figure S.2",
            f"the cascade keeps fewer weights than the parallel scheme at the same discrepancy: {name}, networks of 50, 75 "
            "and 100, each at 0.05 and 0.2, cascade and parallel",
            published,
            partial(cascade_is_sparser, layers),
            "01_spirals",
        )
        for name, layers, published in (
            ("the last layer", (3,), read_off(3)),
            ("the layer between the hidden ones", (2,), read_off(2)),
            ("all layers", (1, 2, 3), totals_read_off()),
        )
    ),
    *(
        Claim.of(
            spirals.TABLES,
            f"NIPS 2017, Table {table}",
            f"weights removed of networks of {', '.join(map(str, cuts))} at a discrepancy below 0.02",
            " / ".join(map(str, cuts.values())) + " %",
            partial(tables, table),
            "01_spirals",
        )
        for table, cuts in spirals.PUBLISHED_CUTS.items()
    ),
)
