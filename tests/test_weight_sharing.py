"""Weights that share few values: k-means with the paper's starts, and gradients that are sums over clusters."""

import copy

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

from nettrim.baselines import deep_compression
from nettrim.baselines.deep_compression import (
    Shared,
    kmeans,
    share,
    sharing_rate,
    starts,
    tune,
)
from nettrim.errors import ModelError, SettingError
from nettrim.masks import weights
from nettrim.train import constant, train
from tests.networks import small
from tests.toys import bits, learnable, pruned

# --- k-means


def cost(values, centroids):
    return np.square(np.abs(values[:, None] - centroids).min(1)).sum()


@pytest.mark.parametrize("how", deep_compression.STARTS)
@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_kmeans_is_a_fixed_point_whose_centroids_are_means_and_whose_clusters_are_nearest(how, k):
    values = np.random.default_rng(k).normal(size=300) ** 3
    centroids, index = kmeans(values, k, how)
    assert len(centroids) == k and np.all(np.diff(centroids) > 0) and set(index) == set(range(k))
    assert np.array_equal(index, np.abs(values[:, None] - centroids).argmin(1))
    # means of up to 300 float64 numbers of size 30: rounding is below 300 * 30 * 1e-16
    assert np.allclose([values[index == i].mean() for i in range(k)], centroids, rtol=0, atol=1e-12)
    assert cost(values, centroids) <= cost(values, starts(values, k, how)) + 1e-9


@pytest.mark.parametrize("how", deep_compression.STARTS)
def test_kmeans_agrees_with_scikit_learn_from_the_same_start(how):
    values = np.random.default_rng(3).normal(size=400)
    begin = starts(values, 6, how)
    theirs = KMeans(6, init=begin[:, None], n_init=1, max_iter=10_000, tol=0).fit(values[:, None])
    centroids, index = kmeans(values, 6, how)
    assert np.allclose(np.sort(theirs.cluster_centers_[:, 0]), centroids, rtol=0, atol=1e-10)  # both exact but for rounding
    assert theirs.inertia_ == pytest.approx(np.square(values - centroids[index]).sum(), rel=1e-10)


def test_the_starts_are_those_of_the_paper():
    values = np.array([5.0, 0.0, 1.0, 2.0, 9.0, 3.0, 2.5, 10.0])
    assert starts(values, 3, "linear").tolist() == [0.0, 5.0, 10.0]
    assert starts(values, 4, "density").tolist() == [1.0, 2.5, 5.0, 10.0]  # levels 1/8, 3/8, ... of the distribution
    drawn = starts(values, 4, "forgy", seed=1)
    assert len(set(drawn)) == 4 and set(drawn) <= set(values) and np.array_equal(drawn, starts(values, 4, "forgy", seed=1))
    assert any(not np.array_equal(drawn, starts(values, 4, "forgy", seed=s)) for s in range(2, 6))


def test_a_cluster_without_values_begins_again_where_the_error_is_largest():
    values = np.array([0.0, 0.1, 0.2, 10.0, 10.4])  # a linear start puts 2 of 4 centroids where nothing is
    centroids, index = kmeans(values, 4)
    assert len(set(index.tolist())) == 4
    # Of the ways to cut five sorted values in four, one pair stays together; Lloyd's step cannot leave (0, .1) or (.1, .2).
    assert cost(values, centroids) == pytest.approx(2 * 0.05**2, rel=1e-9)


def test_no_more_clusters_than_distinct_values():
    centroids, index = kmeans([3.0, -1.0, 3.0, 3.0], 4)
    assert centroids.tolist() == [-1.0, 3.0] and index.tolist() == [1, 0, 1, 1]


def test_values_one_rounding_apart_come_to_an_end():
    near = np.nextafter([1.0, np.nextafter(1.0, 2), np.nextafter(np.nextafter(1.0, 2), 2)], 2)
    centroids, index = kmeans(near, 2)
    assert len(centroids) <= 2 and np.abs(near - centroids[index]).max() <= 2 * np.spacing(1.0)


def test_kmeans_refuses_what_has_no_clusters():
    for wrong in ([], [1.0, np.nan], [np.inf]):
        with pytest.raises(SettingError, match="needs values, all finite"):
            kmeans(wrong, 2)
    with pytest.raises(SettingError, match="must be one of 'linear'"):
        kmeans([1.0, 2.0, 3.0], 2, "random")
    with pytest.raises(SettingError, match="at least 1 centroid"):
        kmeans([1.0], 0)


# --- weight sharing


def test_the_rate_of_the_papers_example():
    assert sharing_rate(16, 4) == pytest.approx(3.2, rel=1e-12)  # 512 / (32 + 128)
    n, k, b = 1000, 32, 64
    assert sharing_rate(n, k, bits=b) == pytest.approx(n * b / (n * 5 + k * b), rel=1e-12)


@pytest.mark.parametrize("how", deep_compression.STARTS)
def test_sharing_leaves_few_values_a_layer_and_zeros_where_they_were(how):
    model = pruned(small())
    shared = share(model, 2, start=how, seed=1)
    for name, weight in weights(model).items():
        came = weights(shared)[name]
        assert torch.equal(came == 0, weight == 0)
        assert len(came[came != 0].unique()) == 4
        values = weight[weight != 0].detach().double().numpy()
        centroids, index = kmeans(values, 4, how, seed=[1, list(weights(model)).index(name)])
        assert np.array_equal(came[came != 0].detach().numpy(), centroids[index].astype(np.float32))
    assert bits(model) == bits(pruned(small()))


def test_bfloat16_is_shared_too():
    model = pruned(small()).to(torch.bfloat16)
    for weight, came in zip(weights(model).values(), weights(share(model, 2)).values(), strict=True):
        assert came.dtype == torch.bfloat16 and torch.equal(came == 0, weight == 0) and len(came[came != 0].unique()) == 4


def test_what_cannot_be_shared_is_refused_by_name():
    for bits_, seed in ((-1, 0), (0, 0), (17, 0), (2.5, 0), ("2", 0), (2, -1), (2, 1.5)):
        with pytest.raises(SettingError, match="bits must be a whole" if seed == 0 else "seed must be a whole"):
            share(small(), bits_, seed=seed)
    for wrong in (np.nan, np.inf):
        model = small()
        model[4].weight.data[0, 0] = wrong
        with pytest.raises(ModelError, match=r"'4\.weight' holds NaN or Inf"):
            share(model, 2)


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_cluster_and_sgd_steps_along_it():
    data, shared = learnable(), share(pruned(small()), 2).eval()
    module = Shared(shared)
    nn.functional.cross_entropy(module(data.x_train), data.y_train).backward()
    nn.functional.cross_entropy(shared(data.x_train), data.y_train).backward()
    for (name, weight), centroids in zip(weights(shared).items(), module.centroids, strict=True):
        sums = torch.stack([weight.grad[weight == c].sum() for c in centroids])
        # float32 sums of at most 40 terms in another order
        assert torch.allclose(centroids.grad, sums, rtol=1e-4, atol=1e-7), name
        assert max(int((weight == c).sum()) for c in centroids) > 1  # the mean would be another number
    quiet = copy.deepcopy(module).eval()
    for part in quiet.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    how = {"steps": 1, "batch_size": len(data.x_train), "learning_rate": 0.1, "schedule": constant}
    moved = train(quiet, data.x_train, data.y_train, momentum=0.5, **how)
    for before, after in zip(module.centroids, moved.centroids, strict=True):
        # Nesterov's first step is (1 + momentum) times the gradient
        assert torch.allclose(after, before - 0.1 * 1.5 * before.grad, rtol=1e-4, atol=1e-7)


def test_training_shared_weights_keeps_zeros_and_clusters_and_lowers_the_loss():
    data, shared = learnable(), share(pruned(small(5), 0.5), 2)
    tuned = tune(shared, data, epochs=20, learning_rate=3e-3, batch_size=20, label_smoothing=0.0)
    for name, weight in weights(shared).items():
        came = weights(tuned)[name]
        assert torch.equal(came == 0, weight == 0) and not torch.equal(came, weight)
        for value in weight.unique():
            assert len(came[weight == value].unique()) == 1
    loss = [nn.functional.cross_entropy(m.eval()(data.x_train), data.y_train) for m in (shared, tuned)]
    assert loss[1] < loss[0]
    assert bits(tune(shared, data, epochs=0)) == bits(shared)


@pytest.mark.parametrize(
    "wrong", [{"epochs": -3}, {"batch_size": 0}, {"learning_rate": 0.0}, {"label_smoothing": 2.0}, {"seed": -1}], ids=str
)
def test_bad_settings_of_tuning_are_refused_by_name(wrong):
    with pytest.raises(SettingError, match=f"{next(iter(wrong))} must be"):
        tune(share(small(), 2), learnable(), **wrong)


def test_a_network_that_does_not_fit_the_data_is_not_tuned():
    with pytest.raises(ModelError, match="does not take samples"):
        tune(nn.Linear(5, 4), learnable())
