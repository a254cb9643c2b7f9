"""A trim that is cut off goes on where it was, with the same bytes; nothing of another trim is taken."""

import pytest
import torch

from nettrim import ModelError, schemes, trim
from tests.networks import samples, small


def weights(model):
    return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]


@pytest.mark.parametrize("scheme", ["parallel", "cascade"])
def test_a_trim_that_was_cut_off_goes_on(scheme, tmp_path, monkeypatch):
    x, folder = samples(), tmp_path / "run"
    whole = trim(small(), x, 0.2, scheme=scheme)
    real, done = schemes.retrain, []

    def two_layers(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(schemes, "retrain", two_layers)
    with pytest.raises(KeyboardInterrupt):
        trim(small(), x, 0.2, scheme=scheme, checkpoint=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["1.npz", "4.npz", "trim.sha256"]
    done.pop()
    again = trim(small(), x, 0.2, scheme=scheme, checkpoint=folder)
    assert len(done) == 2  # one layer was left
    assert weights(again.model) == weights(whole.model)
    assert [row.gap for row in again.layers] == [row.gap for row in whole.layers]
    monkeypatch.setattr(schemes, "retrain", lambda *_: pytest.fail("all layers are known"))
    assert weights(trim(small(), x, 0.2, scheme=scheme, checkpoint=folder).model) == weights(whole.model)


@pytest.mark.parametrize("change", ["model", "samples", "request"])
def test_the_checkpoint_of_another_trim_is_refused(change, tmp_path):
    trim(small(), samples(), 0.2, checkpoint=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model = small(seed=7) if change == "model" else small()
    x = samples(seed=7) if change == "samples" else samples()
    with pytest.raises(ModelError, match="holds layers of another model, of other samples or of another request"):
        trim(model, x, 0.3 if change == "request" else 0.2, checkpoint=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_half_precision_and_single_numbers_have_a_fingerprint(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(12, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    x = samples().flatten(1)
    for dtype in (torch.float32, torch.bfloat16):
        trim(model.to(dtype), x, 0.3, tol=0.05, checkpoint=tmp_path / str(dtype))
