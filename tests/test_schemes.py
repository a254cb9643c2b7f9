"""Parallel and cascade: what each promises, on chains, branches and convolutions, whoever does the work."""

import numpy as np
import pytest
import torch
from joblib import parallel_config
from torch import nn

from nettrim import LayerProblem, ModelError, certify, layer_problems, trim
from nettrim.activations import Draw, forward, record
from nettrim.asked import at_radius
from nettrim.layers import plain, read
from nettrim.models import lenet5
from solvers import cascaded
from tests.networks import Residual, samples, small


def inputs(model, name, x):
    layer = plain(model.get_submodule(name))
    return record(model, {name: Draw(layer, torch.arange(len(x)))}, x)[name]


def test_the_cascade_is_the_published_program_layer_by_layer():
    model, x, gamma, kappa = small(), samples(), 1.2, 0.98
    result = trim(model, x, 0.1, scheme="cascade", gamma=gamma, kappa=kappa)
    assert result.solved
    first, second, last = result.layers
    assert first.epsilon == pytest.approx(0.1)
    for row in (second, last):
        (W,), (W_hat,) = read(plain(model.get_submodule(row.name))), read(plain(result.model.get_submodule(row.name)))
        X, X_hat = inputs(model, row.name, x), inputs(result.model, row.name, x)
        if row is second:
            problem = LayerProblem.cascade(X_hat, X, W.astype(np.float32), gamma, loose=True)
            on = problem.active
            own = np.linalg.norm((W.T @ X_hat - np.maximum(W.T @ X, 0))[on])
            assert row.epsilon * problem.norm == pytest.approx(np.sqrt(gamma) * own, rel=1e-5)
        else:
            problem = LayerProblem.cascade_linear(X_hat, X, W.astype(np.float32), gamma, kappa=kappa)
            own = np.linalg.norm(W.T @ (X_hat - X))
            assert row.epsilon * problem.norm == pytest.approx(kappa * np.sqrt(gamma) * own, rel=1e-5)
        assert certify(problem, W_hat).violation <= 1e-3 * (1 + 1e-6)
    # The last program is about the output itself (Proposition S.1).
    assert result.output_error <= result.bound * (1 + 1e-5) <= last.epsilon * result.output_norm * (1 + 2e-3)


@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_the_cascade_obeys_theorem_2(gamma):
    model, x, epsilon = small(), samples(200), 0.1
    result = trim(model, x, epsilon, scheme="cascade", gamma=gamma)
    assert result.solved
    first = epsilon * np.linalg.norm(np.maximum(read(plain(model[1]))[0].T @ inputs(model, "1", x), 0))
    sizes = [np.linalg.norm(read(plain(model[k]))[0][:-1]) for k in (4, 6)]  # the row of ones carries no error
    promised = first * np.prod([np.sqrt(gamma) * size for size in sizes])
    assert result.output_error <= promised * (1 + 1e-3) ** 3 + 1e-3 * promised


@pytest.mark.parametrize("epsilon", [0.1, {"1": 0.4, "*": 0.01}])
def test_the_cascade_at_a_radius_of_its_own(epsilon):
    model, x = small(), samples(200)
    result = trim(model, x, epsilon, scheme="cascade")
    assert result.solved
    own = 0.1 if epsilon == 0.1 else 0.01
    for row in result.layers[1:]:
        (W,), (W_hat,) = read(plain(model.get_submodule(row.name))), read(plain(result.model.get_submodule(row.name)))
        X, X_hat = inputs(model, row.name, x), inputs(result.model, row.name, x)
        make = LayerProblem.parallel if row.activation == "relu" else LayerProblem.linear
        problem = at_radius(cascaded(make(X, W.astype(np.float32), 0.0), X_hat, W.astype(np.float32)), own)
        assert certify(problem, W_hat).violation <= 1e-3 * (1 + 1e-6)
        assert row.epsilon == pytest.approx(problem.epsilon / problem.norm)
        # A first layer that is far off leaves the next none that are near: the radius grows, and says so.
        assert row.epsilon == pytest.approx(own) if own == 0.1 else row.epsilon > own


def test_ceilings_as_published_are_there_too():
    x = samples(30)  # few, so that the published set has an interior
    loose, exact = (trim(small(), x, 0.2, scheme="cascade", gamma=1.1, loose=loose) for loose in (True, False))
    assert loose.solved
    assert exact.solved
    # From the same first layer on, the loose set holds the exact one.
    assert exact.layers[0].weights_kept == loose.layers[0].weights_kept
    mass = [float(np.abs(read(plain(result.model[4]))[0]).sum()) for result in (loose, exact)]
    assert mass[0] <= mass[1] * (1 + 2e-3)
    assert mass[0] < 0.99 * mass[1]


def test_a_branch_that_nothing_has_changed_yet_is_its_own_first_layer():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(12, 6), nn.Linear(12, 6), nn.Linear(6, 4)

        def forward(self, x):
            return self.c(torch.relu(self.a(x)) + torch.relu(self.b(x)))

    torch.manual_seed(0)
    rows = {row.name: row for row in trim(Fork(), samples().flatten(1), 0.2, scheme="cascade").layers}
    assert rows["a"].epsilon == rows["b"].epsilon == pytest.approx(0.2)
    assert rows["c"].epsilon == pytest.approx(0.2)
    rows = {row.name: row for row in trim(Fork(), samples().flatten(1), 0.2, scheme="cascade", gamma=1.1).layers}
    assert rows["a"].epsilon == rows["b"].epsilon == pytest.approx(0.2)
    assert rows["c"].epsilon != pytest.approx(0.2, rel=1e-2)


@pytest.mark.parametrize("scheme", ["parallel", "cascade"])
@pytest.mark.parametrize("model", [Residual(), lenet5()], ids=["residual", "convolutions"])
def test_any_graph_in_either_scheme(scheme, model):
    shape = (1, 28, 28) if len(list(model.children())) > 2 else (3, 4)
    x = torch.rand(60, *shape, generator=torch.Generator().manual_seed(0))
    result = trim(model, x, 0.1, scheme=scheme, n_samples=200, holdout=x[:7])
    assert result.solved
    assert result.kept < 1
    assert all(row.achieved <= row.epsilon * (1 + 2e-3) for row in result.layers if scheme == "parallel")
    assert all(0 < row.holdout < 2 for row in result.layers)
    error = torch.linalg.norm((forward(result.model, x[:7]) - forward(model, x[:7])).double())
    assert result.holdout_error == pytest.approx(float(error / torch.linalg.norm(forward(model, x[:7]).double())), rel=1e-6)


def test_held_out_errors_are_those_of_the_calibration_where_the_samples_are_the_same():
    x = samples()
    for scheme in ("parallel", "cascade"):
        result = trim(small(), x, 0.2, scheme=scheme, holdout=(x, torch.zeros(60, dtype=torch.long)))
        for row in result.layers:
            assert row.holdout == pytest.approx(row.achieved, rel=1e-4)
        assert result.holdout_error == pytest.approx(result.output_error / result.output_norm)
        assert result.accuracy == float((forward(result.model, x).argmax(1) == 0).float().mean())
        assert result.accuracy_dense == float((forward(small(), x).argmax(1) == 0).float().mean())


def weights(result):
    return [parameter.detach().numpy().tobytes() for parameter in result.model.parameters()]


def test_the_same_bytes_whoever_does_the_work():
    x = samples(200)
    alone = trim(small(), x, 0.2)
    assert weights(trim(small(), x, 0.2, n_jobs=2)) == weights(alone)
    with parallel_config(backend="threading", n_jobs=2):
        assert weights(trim(small(), x, 0.2)) == weights(alone)


def test_an_error_in_a_worker_names_the_layer():
    model = small()
    with torch.no_grad():
        model[1].weight.mul_(1e38)
    with pytest.raises(ModelError, match=r"layer '[14]': [XY] has .* NaN or Inf"):  # whichever fails first
        trim(model, samples() * 1e3, 0.1, n_jobs=2)


def test_the_programs_of_a_layer_are_there_for_those_who_solve_them():
    model, x = lenet5(), torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    (problem,) = layer_problems(model, "3", x, 0.2, n_samples=100)
    assert (problem.N, problem.M, problem.P) == (501, 50, 100)
    assert problem.epsilon == pytest.approx(0.2 * problem.norm)
    (W,) = read(plain(model[3]))
    assert certify(problem, W).response_error <= 1e-6 * problem.norm
    assert len(layer_problems(nn.Sequential(nn.Conv2d(4, 4, 3, groups=4)), "0", torch.rand(2, 4, 5, 5))) == 4
    with pytest.raises(ModelError, match="no layer '1' can be trimmed; there are 0, 3, 7, 9"):
        layer_problems(model, "1", x)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets that distributed closes when it is collected
def test_the_same_call_runs_on_the_cluster_of_the_caller():
    distributed = pytest.importorskip("distributed")
    x = samples(200)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        parallel_config(backend="dask"),
    ):
        found = trim(small(), x, 0.2)
        assert len(client.nthreads()) == 2  # asked of the scheduler: what the client remembers may lag behind
    assert weights(found) == weights(trim(small(), x, 0.2))
