"""The claims of the other systems, each with the condition under which the rows say that it was reproduced."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.baselines import lottery
from benchmarks.baselines._tables import grouped, mean, numbers, percent
from reproduce.claim import Claim, Found, of_all, read, without_loss
from reproduce.figure import RESULTS


def tickets(number: str) -> Found:
    """Judge a level: on every seed the ticket stops earlier than the re-initialized control, and ends more accurate."""
    found = lottery.by_seed(RESULTS / "baseline_lottery.csv")
    ticket, again = (found["mnist", "6000", "layer", number, network] for network in ("ticket", "reinit"))
    stops, ends = (
        [mean([factor * v for v in of[field]], digits) for of in (ticket, again)] for field, factor, digits in FIELDS
    )
    text = f"stops at {stops[0]} against {stops[1]}, ends at {ends[0]} % against {ends[1]} %"
    ahead = [a < b for a, b in zip(ticket["early_stop"], again["early_stop"], strict=True)]
    ahead += [a > b for a, b in zip(ticket["accuracy"], again["accuracy"], strict=True)]
    return Found(text, of_all(ahead))


FIELDS = (("early_stop", 1, 0), ("accuracy", 100, 2))


def growing() -> Found:
    """Judge: from 21 to 7 % both gaps between ticket and control grow, in speed and in accuracy; in part, if one does."""
    found = lottery.by_seed(RESULTS / "baseline_lottery.csv")
    faster, better = [], []
    for number in ("7", "12"):
        ticket, again = (found["mnist", "6000", "layer", number, network] for network in ("ticket", "reinit"))
        faster.append(statistics.fmean(again["early_stop"]) / statistics.fmean(ticket["early_stop"]))
        better.append(100 * (statistics.fmean(ticket["accuracy"]) - statistics.fmean(again["accuracy"])))
    text = f"{faster[0]:.2f} and {faster[1]:.2f} times faster (the control has not always stopped when training ends, at "
    text += f"6,000); {better[0]:.2f} and {better[1]:.2f} points"
    grown = [faster[1] > faster[0], better[1] > better[0]]
    return Found(text, of_all(grown))


def deep_compression() -> Found:
    """Judge: at least as small, without loss."""
    of = {key[-1]: rows for key, rows in grouped(RESULTS / "baseline_deep_compression.csv", "network", "step").items()}
    dense, coded = (statistics.fmean(numbers(of[step], "bytes")) for step in ("dense", "coded"))
    worse = 100 * (statistics.fmean(numbers(of["dense"], "accuracy")) - statistics.fmean(numbers(of["coded"], "accuracy")))
    text = f"{dense / coded:.1f}x on disk, all counted; accuracy {percent(of['dense'])} before, {percent(of['coded'])} after"
    return Found(text, without_loss(worse) if dense / coded >= 40 else False)


def binary() -> Found:
    """Judge: an error near the published one, of a far larger network trained far longer, would be the claim."""
    rows = grouped(RESULTS / "baseline_binarize.csv", "variant")["binary",]
    error = [100 - value for value in numbers(rows, "accuracy", 100)]
    text = f"{mean(error)} % with 784-512-512-10 in {rows[0]['epochs']} epochs"
    return Found(text, True if statistics.fmean(error) <= 1 else None if statistics.fmean(error) <= 3 else False)


def pruned(case: str) -> Found:
    """Judge Han's rate: on the mean over seeds no more errors than before."""
    rows = [row for row in read("baseline_han.csv") if row["case"] == case]
    first = [row for row in rows if row["step"] == "dense"]
    last = list({row["seed"]: row for row in rows}.values())
    before, after = (numbers(some, "errors", 0.01) for some in (first, last))
    text = f"{mean(before)} % before, {mean(after)} % at {percent(last, 'kept', 1)}"
    return Found(text, without_loss(statistics.fmean(after) - statistics.fmean(before)))


class Pair(NamedTuple):
    """Two cases of the same pruning: with L1 and with L2, in training and in retraining."""

    shown: str
    l1: str
    l2: str
    rounds: int = 4
    part: str = ""


FOUR_ROUNDS = (
    Pair("strengths as in training", "plain, 12x, iterative, L1", "plain, 12x, iterative, L2 as in training"),
    Pair("three times those", "plain, 12x, iterative, L1 three times that", "plain, 12x, iterative"),
)
RECIPE = (Pair("L1 as in training, L2 three times that", "lenet300, 12x, iterative, L1", "lenet300, 12x, iterative"),)
ONE_ROUND = tuple(
    Pair(rate, *(f"lenet300, {rate}, trained with {p}, retrained with {p}" for p in ("l1", "l2")), 1, "_penalties")
    for rate in ("8x", "12x")
)


def penalties(step: str, better: str, pairs: Sequence[Pair]) -> Found:
    """Judge the penalties: the better has fewer errors on every seed of every pair; in part, on the mean of every pair."""
    shown, seeds, means = [], [], []
    for pair in pairs:
        of = grouped(RESULTS / f"baseline_han{pair.part}.csv", "case", "step")
        one, two = (numbers(of[case, f"round {pair.rounds} {step}"], "errors", 0.01) for case in (pair.l1, pair.l2))
        shown.append(f"{pair.shown}: {mean(one)} % with L1, {mean(two)} % with L2")
        ahead, behind = (one, two) if better == "l1" else (two, one)
        seeds += [a < b for a, b in zip(ahead, behind, strict=True)]
        means.append(statistics.fmean(ahead) < statistics.fmean(behind))
    return Found("; ".join(shown), True if all(seeds) else None if all(means) else False)


def students() -> Found:
    """Judge soft targets: half of the errors would be the claim, fewer on every seed is it in part."""
    of = grouped(RESULTS / "baseline_distillation.csv", "student", "temperature", "without", "step")
    labels, soft, teacher = (of["784-800-800-10", "20", "", step] for step in ("labels", "distilled", "teacher"))
    errors = [mean(numbers(rows, "errors"), 1) for rows in (labels, soft)]
    fewer = all(b < a for a, b in zip(numbers(labels, "errors"), numbers(soft, "errors"), strict=True))
    half = statistics.fmean(numbers(soft, "errors")) <= statistics.fmean(numbers(labels, "errors")) / 2
    return Found(f"{errors[0]} and {errors[1]}, the teacher {teacher[0]['errors']}", half or (None if fewer else False))


def targeted() -> Found:
    """Judge targeting: on every seed, at 90 and 95 % of weights and of units, above ordinary dropout and none."""
    of = grouped(RESULTS / "baseline_targeted_dropout.csv", "by", "training", "pruned")
    shown, better = [], []
    for by in ("weights", "units"):
        ours, *others = (of[by, name, "0.95"] for name in (f"{by}, ramping 0.99 of 0.95", "none", "dropout 0.25"))
        shown.append(f"{by} {percent(ours, digits=1)} against {' and '.join(percent(rows, digits=1) for rows in others)}")
        for level, name in [(level, name) for level in ("0.9", "0.95") for name in ("none", "dropout 0.25", "dropout 0.5")]:
            both = [numbers(of[by, each, level], "accuracy") for each in (f"{by}, ramping 0.99 of 0.95", name)]
            better += [a > b for a, b in zip(*both, strict=True)]
    return Found("at 95 %: " + "; ".join(shown), of_all(better))


def factors() -> Found:
    """Judge LeNet-5 of factors, ranks by EVBMF: a third of the parameters or less, without loss."""
    rows = [
        row
        for (network, settings), found in grouped(RESULTS / "baseline_low_rank.csv", "network", "settings").items()
        for row in found
        if network == "lenet5" and '"cp"' in settings and '"evbmf"' in settings
    ]
    lost = statistics.fmean(numbers(rows, "dense_accuracy", 100)) - statistics.fmean(numbers(rows, "accuracy_after", 100))
    left = percent(rows, "parameters", 1)
    text = f"{left} of the parameters, {percent(rows, 'dense_accuracy')} before, {percent(rows, 'accuracy_after')} after"
    few = statistics.fmean(numbers(rows, "parameters")) <= 1 / 3
    return Found(text, without_loss(lost) if few else False)


def fire_modules() -> Found:
    """Judge the small SqueezeNet beside LeNet-5: a twentieth of its parameters, without loss."""
    of = grouped(RESULTS / "baseline_squeezenet.csv", "network", "squeeze_ratio", "epochs")
    ours, beside = of["squeezenet_small", "0.25", "12"], of["lenet5", "", "8"]
    fewer = int(beside[0]["parameters"]) / int(ours[0]["parameters"])
    lost = statistics.fmean(numbers(beside, "accuracy", 100)) - statistics.fmean(numbers(ours, "accuracy", 100))
    text = f"{fewer:.1f} times fewer than LeNet-5, {percent(ours)} against {percent(beside)}"
    return Found(text, without_loss(lost) if fewer >= 20 else False)


def few_bits() -> Found:
    """Judge LeNet-300-100 on 4 bits, weights and activations: no loss on the mean."""
    of = grouped(RESULTS / "baseline_quantize.csv", "network", "bits", "activation_bits", "step")
    dense = of["lenet300", "dense", "dense", "dense"]
    four = of["lenet300", "4", "4", "in training"]
    lost = statistics.fmean(numbers(dense, "accuracy", 100)) - statistics.fmean(numbers(four, "accuracy", 100))
    text = f"{percent(dense)} on 32 bits, {percent(four)} on 4, {percent(of['lenet300', '2', '2', 'in training'])} on 2"
    return Found(text, without_loss(lost))


def study(name: str, *parts: str) -> tuple[Path, ...]:
    """Return the files of a study of the baselines."""
    return tuple(RESULTS / f"baseline_{name}{part}.csv" for part in ("", *parts))


def by_baseline(name: str) -> str:
    """Return the command of a study of the baselines."""
    return f"python -m benchmarks.baselines {name} --networks FOLDER"


BASELINES = "04_baselines"
HAN = "python -m benchmarks.baselines han --networks FOLDER"
CLAIMS = (
    Claim(
        "Han, Pool, Tran, Dally 2015",
        "LeNet-300-100 loses nothing at a twelfth of its weights",
        "error 1.64 % to 1.59 %",
        HAN,
        65,
        study("han"),
        lambda: pruned("plain, 12x, iterative"),
        BASELINES,
    ),
    Claim(
        "Han, Pool, Tran, Dally 2015",
        "the same for a network of dropout and label smoothing, which is better from the start",
        "",
        HAN,
        65,
        study("han"),
        lambda: pruned("lenet300, 12x, iterative"),
        BASELINES,
    ),
    Claim(
        "Han, Pool, Tran, Dally 2015",
        "LeNet-5 loses nothing at a twelfth of its weights",
        "error 0.80 % to 0.77 %",
        HAN,
        65,
        study("han"),
        lambda: pruned("lenet5, 12x, iterative, local"),
        BASELINES,
    ),
    *(
        Claim(
            "Han, Pool, Tran, Dally 2015",
            f"{when} retraining {better.upper()} is better: {rounds}",
            "a figure of AlexNet",
            HAN,
            65,
            study("han", "_penalties"),
            partial(penalties, step, better, cases),
            BASELINES,
        )
        for when, step, better in (("before", "pruned", "l1"), ("after", "retrained", "l2"))
        for rounds, cases in (
            ("a twelfth in four rounds, LeNet-300-100 trained plainly", FOUR_ROUNDS),
            ("the same by the recipe with dropout and label smoothing", RECIPE),
            ("one round, ten epochs of retraining, by the recipe", ONE_ROUND),
        )
    ),
    Claim(
        "Gomez et al. 2019",
        "after targeted dropout much more can be pruned without retraining than after ordinary dropout or none",
        "",
        by_baseline("targeted_dropout"),
        40,
        study("targeted_dropout"),
        targeted,
        BASELINES,
    ),
    Claim(
        "Hinton, Vinyals, Dean 2015",
        "a student of 800 and 800 units makes half of the errors when it is trained on soft targets",
        "146 and 74, the teacher 67",
        by_baseline("distillation"),
        45,
        study("distillation"),
        students,
        BASELINES,
    ),
    Claim(
        "Frankle, Carbin 2019",
        "at 21 % of the weights of LeNet-300-100 the ticket learns faster than its re-initialized masks, and better",
        "2.51 times faster, 0.5 points",
        by_baseline("lottery"),
        60,
        study("lottery"),
        lambda: tickets("7"),
        BASELINES,
    ),
    Claim(
        "Frankle, Carbin 2019",
        "the same at 7 %",
        "",
        by_baseline("lottery"),
        60,
        study("lottery"),
        lambda: tickets("12"),
        BASELINES,
    ),
    Claim(
        "Frankle, Carbin 2019",
        "the gap grows as weights are removed: 21 and 7 %, in speed and in accuracy; 6,000 iterations in place of 50,000",
        "a figure",
        by_baseline("lottery"),
        60,
        study("lottery"),
        growing,
        BASELINES,
    ),
    Claim(
        "Han, Mao, Dally 2016",
        "LeNet-300-100 is 40 times smaller without loss",
        "40x, error 1.64 % to 1.58 %",
        by_baseline("deep_compression"),
        25,
        study("deep_compression"),
        deep_compression,
        BASELINES,
    ),
    Claim(
        "Courbariaux, Hubara et al. 2016",
        "binary weights and activations classify MNIST",
        "0.96 % error",
        by_baseline("binarize"),
        30,
        study("binarize"),
        binary,
        BASELINES,
    ),
    Claim(
        "quantization in training, straight-through gradients",
        "4 bits lose nothing",
        "of other networks",
        by_baseline("quantize"),
        17,
        study("quantize"),
        few_bits,
        BASELINES,
    ),
    Claim(
        "low-rank factorization",
        "LeNet-5 loses nothing at a third of its parameters, ranks by EVBMF",
        "of other networks",
        by_baseline("low_rank"),
        30,
        study("low_rank"),
        factors,
        BASELINES,
    ),
    Claim(
        "Iandola et al. 2016",
        "Fire modules need many times fewer parameters at the same accuracy",
        "50 times fewer than AlexNet",
        by_baseline("squeezenet"),
        25,
        study("squeezenet"),
        fire_modules,
        BASELINES,
    ),
)
