"""Results come back from disk as they went; what is not a result is refused."""

import json

import pytest
import torch

from nettrim import ModelError, load, trim
from nettrim.store import write_json
from tests.networks import Tied, samples, small


def test_round_trip(tmp_path):
    model = small()
    result = trim(model, samples(), 0.2)
    result.save(tmp_path / "deep" / "out")
    back = load(tmp_path / "deep" / "out", model)
    assert back.layers == result.layers
    for name in ("bound", "output_error", "output_norm", "parameters", "parameters_kept", "settings", "solved", "kept"):
        assert getattr(back, name) == getattr(result, name)
    assert all(torch.equal(a, b) for a, b in zip(back.model.parameters(), result.model.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), small().parameters(), strict=True))
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == ["model.safetensors", "report.json"]


def test_tied_weights_can_be_saved(tmp_path):
    trim(Tied(), samples().flatten(1), 0.2).save(tmp_path)
    assert torch.equal((back := load(tmp_path, Tied())).model.a.weight, back.model.b.weight)


def test_numbers_that_json_does_not_know_are_null_in_any_file(tmp_path):
    write_json({"rows": [{"gap": float("inf"), "kept": 0.5}], "error": float("nan")}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"rows": [{"gap": None, "kept": 0.5}], "error": None}


def test_the_report_is_strict_json_and_the_summary_names_every_layer(tmp_path):
    result = trim(small(), samples(), 0.2)
    result.save(tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert report["solved"] is True
    assert {"python", "nettrim", "torch", "numpy", "numba"} <= set(report["versions"])
    text = str(result)
    assert all(row.name in text for row in result.layers)
    assert f"{result.kept:.2%}" in text


def test_compression_counts_all_parameters_and_kept_the_prunable_ones():
    result = trim(small(), samples(), 0.2)
    parameters = list(result.model.parameters())
    alive = sum(int((p != 0).sum()) for p in parameters)
    assert result.compression == sum(p.numel() for p in parameters) / alive
    weights = [m.weight for m in result.model if hasattr(m, "weight")]
    assert result.kept == sum(int((w != 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_what_is_not_a_result_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not hold a saved result"):
        load(tmp_path, small())
    trim(small(), samples(), 0.2).save(tmp_path)
    with pytest.raises(ModelError, match="are not of this model"):
        load(tmp_path, torch.nn.Linear(3, 2))
    report = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(report | {"schema_version": 99}))
    with pytest.raises(ModelError, match="schema version 99"):
        load(tmp_path, small())
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ModelError, match="does not hold a saved result"):
        load(tmp_path, small())
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "model.safetensors").write_bytes(b"not this")
    with pytest.raises(ModelError, match="does not hold a saved result"):
        load(tmp_path, small())
