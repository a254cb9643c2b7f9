"""What held-out samples promise of new ones: recomputed by hand, saved, printed, and silent where it must be."""

import numpy as np
import pytest
import torch
from torch import nn

import nettrim
from nettrim.unseen import Unseen, unseen
from solvers import ProblemError
from tests.networks import samples, small
from theory import rate_bound, share_bound


def test_the_report_says_what_the_outputs_say():
    model, other = small().eval(), samples(300, seed=2)
    result = nettrim.trim(model, samples(150), 0.3, holdout=other, confidence=0.9)
    with torch.no_grad():
        before, after = model(other).double(), result.model(other).double()
    errors = (after - before).norm(dim=1)
    found = result.unseen
    assert found.samples == 300 and found.confidence == 0.9
    # To float32's rounding in outputs that may be batched otherwise.
    assert found.error == pytest.approx(share_bound(errors.numpy(), 0.9, 0.9), rel=1e-4)
    assert found.relative_error == pytest.approx(share_bound((errors / before.norm(dim=1)).numpy(), 0.9, 0.9), rel=1e-4)
    changed = int((after.argmax(1) != before.argmax(1)).sum())
    assert 0 < changed < 300
    assert found.changed == changed / 300
    assert found.changed_bound == rate_bound(changed, 300, 0.9)
    assert found.changed < found.changed_bound < 1
    assert str(found) in " ".join(str(result).split())
    assert "300 samples, 90% confidence: 90% of new outputs move by at most" in str(found)


def test_without_held_out_samples_nothing_is_promised(tmp_path):
    result = nettrim.trim(small(), samples(150), 0.3)
    assert result.unseen is None
    result.save(tmp_path)
    assert nettrim.load(tmp_path, small()).unseen is None


@pytest.mark.parametrize("n", [5, 100])
def test_it_is_saved(tmp_path, n):
    result = nettrim.trim(small(), samples(150), 0.3, holdout=samples(n, seed=2))
    result.save(tmp_path)
    assert nettrim.load(tmp_path, small()).unseen == result.unseen
    assert np.isinf(result.unseen.error) == (n < 59)
    assert ("too few samples" in str(result.unseen)) == (n < 59)


def test_outputs_of_0_and_outputs_without_classes():
    wanted = torch.zeros(40, 3)
    same = unseen(wanted, wanted, 0.5)
    assert (same.error, same.relative_error, same.changed) == (0, 0, 0)
    assert unseen(wanted + 1, wanted, 0.5).relative_error == np.inf
    for shape in ((40,), (40, 1), (40, 3, 4)):
        found = unseen(torch.ones(shape), torch.zeros(shape), 0.5)
        assert found.changed is None and found.changed_bound is None
        assert found.error == pytest.approx(np.sqrt(np.prod(shape[1:])))
        assert "class" not in str(found)


def test_an_output_that_overflows_is_infinitely_wrong():
    wanted = torch.ones(100, 3)
    outputs = wanted.clone()
    outputs[0] = float("nan")
    assert unseen(outputs, wanted, 0.9).error == 0  # one of a hundred
    outputs[:] = float("nan")
    found = unseen(outputs, wanted, 0.9)
    assert found.error == found.relative_error == np.inf
    other = samples(100)
    other[3] = 3e38
    assert np.isfinite(nettrim.trim(small(), samples(150), 0.3, holdout=other, confidence=0.5).unseen.error)


def test_all_of_what_comes_in_batches_is_held_out():
    other = samples(60, seed=2)
    whole = nettrim.trim(small(), samples(150), 0.3, holdout=other).unseen
    for batches in (other.split(25), list(other.split(30)), [(part, 0) for part in other.split(7)]):
        assert nettrim.trim(small(), samples(150), 0.3, holdout=iter(batches)).unseen == whole
    assert nettrim.trim(small(), samples(150), 0.3, holdout=list(other.split(30))).unseen == whole  # two: no labels


def test_half_precision_is_measured_in_double():
    wanted = torch.full((40, 400), 200.0, dtype=torch.float16)  # whose squares float16 does not hold
    assert unseen(wanted + 1, wanted, 0.5).error == pytest.approx(20)


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan"), 95])
def test_a_confidence_out_of_range_is_refused_before_any_work(confidence):
    with pytest.raises(ProblemError, match="confidence must be over 0 and below 1"):
        nettrim.trim(nn.Identity(), None, holdout=samples(20), confidence=confidence)
    with pytest.raises(ProblemError, match="confidence must be over 0 and below 1"):
        nettrim.trim(small(), samples(30), confidence=confidence)


def test_it_reads_itself():
    row = {"samples": 3, "confidence": 0.9, "error": None, "relative_error": None, "changed": None, "changed_bound": None}
    assert Unseen.from_json(row) == Unseen(3, 0.9, np.inf, np.inf)
