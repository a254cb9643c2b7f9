"""Deep Compression: the paper's formulas, codes that decode to the same bits, and files that are refused when they lie."""

import copy
import heapq
import json
import math
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import nn

from benchmarks import rows
from benchmarks.baselines import deep_compression as study
from nettrim.baselines import deep_compression
from nettrim.baselines.deep_compression import (
    FILE,
    Shared,
    _pruned,
    breakdown,
    canonical,
    code_lengths,
    compress,
    decompress,
    dense_bytes,
    differences,
    kmeans,
    prune,
    run,
    share,
    sharing_rate,
    starts,
    tune,
)
from nettrim.baselines.deep_compression._huffman import decode, encode
from nettrim.data import Data, mnist5k
from nettrim.errors import ModelError, SettingError
from nettrim.masks import largest, magnitude, threshold, weights
from nettrim.models import lenet300, mlp
from nettrim.train import constant, train
from tests.networks import Tied, samples, small

QUICK = {"keep": 0.4, "rounds": 2, "round_epochs": 1, "epochs": 2, "bits": 2, "tune_epochs": 1, "batch_size": 20}


def toy(n=60):
    """Random samples for ``small``, and labels that a network of its kind gives them, so that they can be learned."""
    x, more = samples(n), samples(n, seed=2)
    with torch.no_grad():
        labels, others = small(5).eval()(x).argmax(1), small(5).eval()(more).argmax(1)
    return Data("toy", x, labels, more, others)


def bits(model):
    return {name: value.contiguous().reshape(-1).view(torch.uint8).tolist() for name, value in model.state_dict().items()}


def pruned(model, keep=0.3):
    """A copy with zeros."""
    model = copy.deepcopy(model)
    for name, mask in magnitude(model, keep).items():
        model.get_parameter(name).data[~mask] = 0
    return model


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


# --- Huffman


def least_bits(counts):
    """The length of an optimal code by another way: the sum of all merged weights."""
    heap, total = [c for c in counts if c], 0
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_codes_are_optimal_prefix_codes_near_the_entropy(counts):
    lengths, c = code_lengths(counts), np.array(counts)
    used = lengths > 0
    assert np.array_equal(used, c > 0) and int((c * lengths).sum()) == least_bits(counts)
    if used.sum() > 1:
        assert sum(Fraction(1, 2 ** int(n)) for n in lengths[used]) == 1
        p = c[used] / c.sum()
        mean, entropy = (p * lengths[used]).sum(), -(p * np.log2(p)).sum()
        assert entropy - 1e-9 <= mean < entropy + 1
    words = [format(code, f"0{n}b") for code, n in zip(canonical(lengths)[used], lengths[used], strict=True)]
    assert all(not b.startswith(a) for a in words for b in words if a is not b)


@given(st.lists(st.integers(0, 30), max_size=200))
def test_what_is_encoded_is_decoded(symbols):
    lengths = code_lengths(np.bincount(symbols, minlength=1)) if symbols else np.zeros(1, int)
    stream = encode(symbols, lengths)
    assert len(stream) == math.ceil(sum(int(lengths[s]) for s in symbols) / 8)
    assert decode(stream, lengths, len(symbols)).tolist() == symbols
    for wrong, count in ((stream + b"\0", len(symbols)), (stream[:-1], len(symbols)), (stream, 8 * len(stream) + 1)):
        if wrong != stream or count != len(symbols):
            with pytest.raises(ModelError, match="symbols"):
                decode(wrong, lengths, count)


def test_canonical_codes_of_a_known_example():
    lengths = code_lengths([5, 1, 2, 0, 8])  # merges 1+2, 3+5, 8+8
    assert lengths.tolist() == [2, 3, 3, 0, 1]
    assert [format(c, f"0{n}b") for c, n in zip(canonical(lengths), lengths, strict=True) if n] == ["10", "110", "111", "0"]
    with pytest.raises(ModelError, match="lengths that no code has"):
        canonical([1, 1, 1])


# --- relative indices


def test_gaps_beyond_the_bound_get_filler_zeros():
    # 3 bits: differences up to 8. From place -1: 2, then 3, then 11 = 8 (filler) + 3, then 8, then 17 = 8 + 8 + 1.
    found, real = differences(np.array([1, 4, 15, 23, 40]), 3)
    assert found.tolist() == [2, 3, 8, 3, 8, 8, 8, 1]
    assert real.tolist() == [True, True, False, True, True, False, False, True]


@given(st.sets(st.integers(0, 400)), st.integers(1, 9))
def test_differences_lead_back_to_the_places(places, index_bits):
    at = np.array(sorted(places), dtype=np.int64)
    found, real = differences(at, index_bits)
    assert np.array_equal(np.cumsum(found)[real] - 1, at)
    assert np.all((found >= 1) & (found <= 2**index_bits)) and np.all(found[~real] == 2**index_bits)
    gaps = np.diff(at, prepend=-1)
    assert len(found) == sum(math.ceil(g / 2**index_bits) for g in gaps)  # no more fillers than needed


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


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_cluster_and_sgd_steps_along_it():
    data, shared = toy(), share(pruned(small()), 2).eval()
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
    data, shared = toy(), share(pruned(small(5), 0.5), 2)
    tuned = tune(shared, data, epochs=20, learning_rate=3e-3, batch_size=20, label_smoothing=0.0)
    for name, weight in weights(shared).items():
        came = weights(tuned)[name]
        assert torch.equal(came == 0, weight == 0) and not torch.equal(came, weight)
        for value in weight.unique():
            assert len(came[weight == value].unique()) == 1
    loss = [nn.functional.cross_entropy(m.eval()(data.x_train), data.y_train) for m in (shared, tuned)]
    assert loss[1] < loss[0]
    assert bits(tune(shared, data, epochs=0)) == bits(shared)


# --- the file


def odd(seed=0):
    """A convolution, batch normalization with its buffers, a layer of zeros, one of a single weight, and -0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 300, bias=False), nn.Linear(300, 4)
        )
    model[3].weight.data.zero_()
    model[4].weight.data.zero_()
    model[4].weight.data[3, 299] = 0.7
    model[0].weight.data[0, 0, 0, 0] = -0.0
    return model


@pytest.mark.parametrize(
    "model",
    [
        share(pruned(small()), 3),
        share(pruned(small().double()), 2),
        small(),
        odd(),
        Tied(),
        pruned(odd().to(torch.bfloat16)),
    ],
    ids=["shared", "float64", "nothing shared", "odd", "tied", "bfloat16"],
)
@pytest.mark.parametrize("index_bits", [1, 3, 8, 16])
def test_a_file_decodes_to_the_same_bits(model, index_bits):
    before = bits(model)
    file = compress(model, index_bits=index_bits)
    other = copy.deepcopy(model)
    for value in other.state_dict().values():
        value.zero_()
    assert bits(decompress(file, other)) == before == bits(model)
    assert all(not value.any() for value in other.state_dict().values())
    assert file == compress(model, index_bits=index_bits)
    last = breakdown(file)[-1]
    assert last["dense_bytes"] == dense_bytes(model)


def test_the_numbers_of_a_hand_made_layer():
    model = nn.Linear(40, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, [0, 1, 2, 3, 30]] = torch.tensor([1.0, 1.0, 1.0, -2.0, -2.0])
    layer, last = breakdown(compress(model, index_bits=3))
    # differences 1 1 1 1, then 27 = 8 + 8 + 8 + 3; values 1 1 1 -2, three zeros, -2: codes of 1.5 bits, 3 of 1 and 5 of 2
    assert (layer["entries"], layer["fillers"], layer["kept"]) == (8, 3, 5 / 40)
    assert layer["value_bits"] == pytest.approx(math.log2(3)) and layer["value_bits_huffman"] == (3 * 1 + 5 * 2) / 8
    assert layer["index_bits"] == 3 and layer["index_bits_huffman"] == (4 * 1 + 3 * 2 + 1 * 2) / 8
    assert layer["pruned_bytes"] == 8 * (3 + 32) / 8 and layer["shared_bytes"] == math.ceil(8 * (math.log2(3) + 3) / 8) + 8
    assert (layer["value_bytes"], layer["index_bytes"], layer["codebook_bytes"]) == (2, 2, 8)
    # tables: number of symbols, bits of a length, lengths of 2 bits: 3 symbols in a byte, 8 in two
    assert layer["table_bytes"] == (2 + 1) + (2 + 2) and layer["file_bytes"] == 2 + 2 + 8 + 7
    assert last["other_bytes"] == 4 and last["dense_bytes"] == 41 * 4 and last["pruned_bytes"] == 35 + 4
    # magic and version, two tensors; names, types, axes and ways; b, values, entries, stream lengths; the check sum
    assert last["header_bytes"] == 6 + (1 + 6 + 1 + 3 + 1) + (1 + 4 + 1 + 2 + 1) + 5 + 4


def test_the_parts_of_a_file_are_all_of_it_and_huffman_is_within_its_bytes():
    model = share(pruned(lenet300(), 0.08), 5)
    file = compress(model)
    *layers, last = breakdown(file)
    parts = ("value_bytes", "index_bytes", "codebook_bytes", "table_bytes", "other_bytes", "header_bytes")
    assert sum(last[name] for name in parts) == last["file_bytes"] == len(file)
    assert last["dense_bytes"] == dense_bytes(model) == 1_066_440 and last["other_bytes"] == 4 * 410
    for name in ("entries", "fillers", "value_bytes", "index_bytes", "codebook_bytes", "table_bytes"):
        assert last[name] == sum(layer[name] for layer in layers)
    for layer in layers:
        for part in ("value", "index"):
            assert layer[f"{part}_bytes"] == math.ceil(layer["entries"] * layer[f"{part}_bits_huffman"] / 8 - 1e-9)
        assert layer["codebook_bytes"] == 32 * 4
        assert layer["pruned_bytes"] > layer["shared_bytes"]
    assert last["pruned_bytes"] > last["shared_bytes"] > last["file_bytes"]  # not of 80 weights: tables outweigh codes there


def signed(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_damaged_and_cut_off_files_are_refused():
    model = share(pruned(small()), 2)
    file = compress(model)
    for length in range(len(file)):
        with pytest.raises(ModelError, match=r"damaged or cut off|no compressed network"):
            decompress(file[:length], model)
    for at in range(len(file)):
        with pytest.raises(ModelError, match=r"damaged or cut off|no compressed network"):
            decompress(file[:at] + bytes([file[at] ^ 16]) + file[at + 1 :], model)
    with pytest.raises(ModelError, match="damaged"):
        decompress(signed(file[:-4] + b"\0"), model)  # a byte too many under a right check sum


@given(st.integers(5, 10_000), st.integers(0, 255), st.integers(0, 60))
def test_files_that_lie_under_a_right_check_sum_are_refused_by_name_or_decode(at, value, cut):
    model = share(pruned(small()), 2)
    body = bytearray(compress(model)[:-4])
    body[5 + (at - 5) % (len(body) - 5)] = value
    file = signed(bytes(body[: len(body) - max(cut - 40, 0)]))
    for read in (lambda: decompress(file, model), lambda: breakdown(file)):
        try:
            read()
        except ModelError as error:
            assert "compressed" in str(error) or "Huffman" in str(error) or "stream" in str(error)


def test_weights_behind_the_end_of_their_layer_are_refused():
    model = nn.Linear(40, 1)
    body = bytearray(compress(model)[:-4])
    body[body.index(b"weight") + len("weight") + 3] = 20  # the second axis, behind type, number of axes and the first
    with pytest.raises(ModelError, match="'weight' has weights behind its end"):
        decompress(signed(bytes(body)), nn.Linear(20, 1))


def test_files_of_another_architecture_are_refused_by_the_name_of_the_tensor():
    file = compress(small())
    for model, match in (
        (small()[:4], r"another architecture: only one of it and the model has '4.weight'"),
        (small().double(), r"'1.weight' is \(9, 12\), torch.float32 in it and \(9, 12\), torch.float64"),
        (nn.Sequential(*small(), nn.Linear(4, 4)), "only one of it and the model has '7.weight'"),
    ):
        before = bits(model)
        with pytest.raises(ModelError, match=match):
            decompress(file, model)
        assert bits(model) == before
    other = small()
    other[4] = nn.Linear(9, 6)
    with pytest.raises(ModelError, match=r"'4.weight' is \(7, 9\), torch.float32 in it and \(6, 9\)"):
        decompress(file, other)


def test_what_a_file_cannot_hold_is_refused():
    with pytest.raises(ModelError, match=r"'weight' has 65\d\d\d distinct weights; let layers share"):
        big = nn.Linear(256, 257)
        big.weight.data = torch.arange(1.0, 257 * 256 + 1).reshape(257, 256)
        compress(big)
    with pytest.raises(ModelError, match=r"'weight' is torch\.complex64"):
        compress(nn.Linear(2, 2, dtype=torch.complex64))
    for wrong in (0, 17, 2.5, True):
        with pytest.raises(SettingError, match="index_bits must be a whole number"):
            compress(small(), index_bits=wrong)


# --- the method


def test_the_method_compresses_real_digits_and_tells_every_stage(tmp_path):
    data = mnist5k()
    data = Data("digits", data.x_train[:1500], data.y_train[:1500], data.x_test, data.y_test)
    model = train(lenet300(), data.x_train, data.y_train, epochs=6)
    before = bits(model)
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    settings = {"keep": [0.08, 0.1, 0.3], "rounds": 2, "epochs": 5, "bits": 4, "tune_epochs": 1}
    result = run(model, data, **settings, folder=tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state) and bits(model) == before
    dense, _, pruned_, shared, tuned, coded = result.rows
    assert [row["step"] for row in result.rows] == ["dense", "pruned 1", "pruned 2", "shared", "tuned", "coded"]
    assert dense["bytes"] == 1_066_440 and dense["rate"] == 1
    assert pruned_["weights"] == coded["weights"] == round(0.08 * 235_200) + 3000 + 300
    file = (tmp_path / FILE).read_bytes()
    assert coded["bytes"] == len(file) and coded["rate"] == 1_066_440 / len(file) > 40
    assert pruned_["bytes"] > shared["bytes"] >= tuned["bytes"] > coded["bytes"]
    assert coded["errors"] == tuned["errors"] and bits(decompress(file, model)) == bits(result.model)
    assert coded["accuracy"] > dense["accuracy"] - 0.02  # 20 of 1,000 images; a broken stage loses hundreds
    for name, weight in weights(result.model).items():
        assert len(weight[weight != 0].unique()) <= 16 and torch.equal(weight != 0, result.masks[name])
    told = json.loads((tmp_path / "breakdown.json").read_text())["layers"]
    assert told == json.loads(json.dumps(breakdown(file)))


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    data, model = toy(), small(3)
    whole = run(model, data, **QUICK, start="forgy", seed=4, folder=tmp_path / "whole")
    assert bits(run(model, data, **QUICK, start="forgy", seed=4).model) == bits(whole.model)
    assert bits(run(model, data, **QUICK, start="forgy", seed=5).model) != bits(whole.model)
    calls = []
    for at in (2, 3):
        folder = tmp_path / str(at)
        for module in (_pruned, deep_compression):

            def cut(*args, at=at, **more):
                calls.append(at)
                if calls.count(at) == at:
                    raise KeyboardInterrupt
                return train(*args, **more)

            monkeypatch.setattr(module, "train", cut)
        with pytest.raises(KeyboardInterrupt):
            run(model, data, **QUICK, start="forgy", seed=4, folder=folder)
        again = run(model, data, **QUICK, start="forgy", seed=4, folder=folder)
        assert calls.count(at) == 4  # three trainings, of which one was begun twice
        assert bits(again.model) == bits(whole.model) and again.rows == whole.rows
        assert (folder / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    with pytest.raises(ModelError, match="other settings"):
        run(model, data, **QUICK, start="linear", seed=4, folder=tmp_path / "whole")


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("keep", 0, "keep must be above 0"),
        ("keep", 1.5, r"keep must be a number in \[0, 1\]"),
        ("keep", [0.1, 0.2], "keep must be one fraction, or one for each of 3 layers; got 2"),
        ("keep", [0.1, 0.2, "x"], "keep must be a number"),
        ("rounds", 0, "rounds must be a whole number, at least 1"),
        ("round_epochs", 0, "round_epochs must be"),
        ("epochs", 0, "epochs must be"),
        ("bits", 9, "bits must be a whole number, at least 1 and at most 8"),
        ("bits", True, "bits must be"),
        ("tune_epochs", -1, "tune_epochs must be"),
        ("index_bits", 17, "index_bits must be"),
        ("batch_size", 0, "batch_size must be"),
        ("seed", -1, "seed must be"),
        ("learning_rate", 0, "learning_rate must be a positive"),
        ("tune_rate", float("nan"), "tune_rate must be a positive"),
        ("weight_decay", -1e-4, "weight_decay must be"),
        ("label_smoothing", 1.5, "label_smoothing must be"),
        ("start", "random", "start must be one of 'linear', 'density', 'forgy'"),
    ],
)
def test_bad_settings_are_refused_by_name_before_any_work(setting, value, match, tmp_path):
    with pytest.raises(SettingError, match=match):
        run(small(), toy(), **{setting: value}, folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_model_that_does_not_fit_the_data_is_refused():
    with pytest.raises(ModelError, match="does not take samples"):
        run(lenet300(), toy())


def test_fractions_fall_to_their_end_and_dropout_by_the_root_of_what_is_left(monkeypatch):
    model, seen = small(), []

    def look(network, *args, masks, **more):
        seen.append(([int(mask.sum()) for mask in masks.values()], network[3].p))
        return train(network, *args, masks=masks, **more)

    monkeypatch.setattr(_pruned, "train", look)
    stages = prune(model, toy(), keep=[0.25, 0.36, 1.0], rounds=2, round_epochs=1, epochs=1)
    assert [counts for counts, _ in seen] == [[54, 38, 28], [27, 23, 28]]  # of 108, 63 and 28
    assert [p for _, p in seen] == pytest.approx([0.5 * math.sqrt(54 / 108), 0.5 * math.sqrt(27 / 108)], rel=1e-12)
    assert all(stage.model[3].p == 0.5 for stage in stages)
    for stage, earlier in zip(stages[1:], stages, strict=False):
        assert all(not (stage.masks[name] & ~earlier.masks[name]).any() for name in stage.masks)


def test_a_fraction_is_a_threshold_of_quality_times_deviation():
    model = small()
    masks = largest(model, {name: weight.numel() // 3 for name, weight in weights(model).items()})
    limits = {}
    for name, weight in weights(model).items():
        kept, gone = (weight[mask].abs().detach().double().numpy() for mask in (masks[name], ~masks[name]))
        deviation = float(weight.detach().std())
        quality = (kept.min() + gone.max()) / 2 / deviation
        limits[name] = quality * deviation
    assert all(torch.equal(mask, masks[name]) for name, mask in threshold(model, limits).items())


def test_the_study_goes_on_from_its_rows_and_tells_the_files_on_disk(tmp_path, monkeypatch, capsys):
    data = mnist5k()
    data = Data("mnist5k", data.x_train[:300], data.y_train[:300], data.x_test[:100], data.y_test[:100])
    monkeypatch.setattr(study, "load", lambda name: data)
    monkeypatch.setattr(study, "trained", lambda name, data, **more: mlp((784, 30, 20, 10), seed=more["seed"]))
    few = {"lenet300": {"keep": [0.08, 0.09, 0.26], "rounds": 2, "round_epochs": 1, "epochs": 1, "tune_epochs": 1}}
    out = tmp_path / "baseline.csv"
    asked = ["--seeds", "0", "1", "--lenet5-seeds", "--bits", "2", "--networks", str(tmp_path / "nets"), "--out", str(out)]
    study.main(asked, few)
    assert "lenet300  coded" in capsys.readouterr().out
    stages, layers, begun = (rows.read(tmp_path / f"baseline{part}.csv") for part in ("", "_layers", "_starts"))
    assert [row["step"] for row in stages] == 2 * ["dense", "pruned 1", "pruned 2", "shared", "tuned", "coded"]
    sizes = [path.stat().st_size for path in sorted((tmp_path / "nets").rglob(FILE))]
    assert [int(row["bytes"]) for row in stages if row["step"] == "coded"] == sizes
    assert [int(row["file_bytes"]) for row in layers if row["layer"] == "all" and row["index_bits"] == "8"] == sizes
    assert [(row["seed"], row["start"]) for row in begun] == [(s, how) for s in "01" for how in deep_compression.STARTS]
    pruned_errors = [row["errors"] for row in stages if row["step"] == "pruned 2"]
    assert [row["pruned_errors"] for row in begun[::3]] == pruned_errors  # the network of the run, not one of its own
    before = {path: path.read_bytes() for path in tmp_path.glob("*.csv")}
    lines = before[tmp_path / "baseline_starts.csv"].splitlines(keepends=True)
    (tmp_path / "baseline_starts.csv").write_bytes(b"".join(lines[:5]))
    study.main(asked, few)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.csv")} == before
