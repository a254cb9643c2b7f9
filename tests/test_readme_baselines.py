"""What the README says of the baselines: every number of its tables comes from a committed row."""

import csv
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

from nettrim import baselines
from nettrim.models import mlp

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def read(name):
    with (ROOT / "notebooks" / "results" / f"baseline_{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table(title):
    """Return the cells of the table under a heading, a list a row, without the head of the table."""
    part = README.split(f"### {title}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def spread(values, digits=2):
    """Return a mean and its standard error as the README writes them."""
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.fmean(values):.{digits}f} ({error:.{digits}f})"


def test_the_list_of_methods_is_whole():
    listed = README.split("## Other ways to compress a network", 1)[1].split("```", 1)[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", listed, flags=re.MULTILINE)) == baselines.available()


def test_the_example_of_a_baseline_runs(tmp_path, monkeypatch, capsys):
    from nettrim.data import mnist5k

    monkeypatch.chdir(tmp_path)
    (block,) = [text for text in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "baselines" in text]
    scope = {"model": mlp((784, 20, 10)), "images": mnist5k(n_test=4500)}
    exec(block, scope)
    assert 0.09 < scope["pruned"].kept <= 0.1 and len(capsys.readouterr().out.split()) == 2
    assert {path.name for path in (tmp_path / "pruned").iterdir()} == {
        "model.safetensors",
        "masks.safetensors",
        "report.json",
    }


def test_deep_compression():
    found = defaultdict(list)
    for row in read("deep_compression"):
        found[row["step"]].append(row)
    assert {row["seed"] for rows in found.values() for row in rows} == {"2", "3", "4"}
    dense = statistics.fmean(int(row["bytes"]) for row in found["dense"])
    said = table("Deep Compression")
    assert [cells[0] for cells in said] == ["dense", "pruned (P)", "shared (P+Q)", "centroids trained", "coded (P+Q+H)"]
    for cells, step in zip(said, ("dense", "pruned 4", "shared", "tuned", "coded"), strict=True):
        size = statistics.fmean(int(row["bytes"]) for row in found[step])
        assert cells[1:] == [
            f"{spread([int(row['errors']) / 100 for row in found[step]])} %",
            f"{size:,.0f}",
            f"{dense / size:.1f}x",
        ]
    assert max(int(a["errors"]) - int(b["errors"]) for a, b in zip(found["coded"], found["tuned"], strict=True)) == 0


def test_quantization():
    found = defaultdict(list)
    for row in read("quantize"):
        if row["network"] == "lenet300" and row["per"] in ("channel", "dense"):
            found[row["bits"], row["activation_bits"], row["step"], row["scale"]].append(row)
    assert all({row["seed"] for row in rows} == {"0", "1", "2"} for rows in found.values())

    def accuracy(*key):
        return f"{spread([100 * float(row['accuracy']) for row in found[key]])} %"

    assert f"LeNet-300-100, {accuracy('dense', 'dense', 'dense', 'dense')} dense" in README
    expected = []
    for bits, given, name in [(b, g, n) for b in "842" for g, n in (("None", "float32"), (b, b))]:
        ways = [("after training", "mse"), ("after training", "max"), ("in training", "mse")]
        (size,) = {int(row["bytes"]) for row in found[bits, given, "in training", "mse"]}
        expected.append([bits, name, *(accuracy(bits, given, *way) for way in ways), f"{size:,}"])
    assert table("Quantization") == expected


def test_binary_networks():
    found = defaultdict(list)
    for row in read("binarize"):
        found[row["variant"]].append(row)
    assert all({row["seed"] for row in found[name]} == {"0", "1", "2"} for name in ("binary", "float twin"))
    said = " ".join(README.split("### Binary networks", 1)[1].split("\n#", 1)[0].split())
    for name in ("binary", "float twin"):
        assert f"{spread([100 * float(row['accuracy']) for row in found[name]])} %" in said
        assert f"{int(found[name][0]['bytes']):,}" in said
    assert all(row["bit_errors"] == row["errors"] for row in found["binary"])
