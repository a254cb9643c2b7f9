"""Data sets: real files, real downloads from a server that the test starts, and refusals of what is not the data."""

import gzip
import http.server
import os
import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nettrim import DataError
from nettrim.data import MNIST_SHA256, load, mnist, mnist5k, spirals

folder = Path(os.environ.get("NETTRIM_DATA", "")) / "mnist"
needs_mnist = pytest.mark.skipif(
    "NETTRIM_DATA" not in os.environ or not folder.is_dir(), reason="NETTRIM_DATA names no folder with mnist/"
)
needs_spirals = pytest.mark.skipif(
    not (folder.parent / "spiral.csv").is_file(), reason="NETTRIM_DATA names no folder with spiral.csv"
)


def test_mnist5k_is_split_evenly_and_by_the_seed():
    data = mnist5k(n_test=500, seed=4)
    assert data.x_train.shape == (4500, 1, 28, 28)
    assert data.x_test.shape == (500, 1, 28, 28)
    assert data.x_train.dtype == torch.float32
    assert float(data.x_train.min()) == 0
    assert float(data.x_train.max()) == 1
    assert data.y_test.bincount().tolist() == [50] * 10
    again, other = mnist5k(n_test=500, seed=4), mnist5k(n_test=500, seed=5)
    assert torch.equal(again.x_train, data.x_train)
    assert not torch.equal(other.x_train, data.x_train)
    rows = torch.cat([data.x_train, data.x_test]).flatten(1).unique(dim=0)
    assert len(rows) == 5000  # the split loses none and takes none twice


@pytest.mark.parametrize("n_test", [0, 5, 5000])
def test_mnist5k_refuses_a_split_that_cannot_be(n_test):
    with pytest.raises(DataError, match="n_test must be"):
        mnist5k(n_test=n_test)


def test_unknown_names_are_refused():
    with pytest.raises(
        DataError, match="no data set is called 'imagenet'; there are mnist5k, mnist, cifar10, svhn, spirals"
    ):
        load("imagenet")


@needs_mnist
def test_mnist_packed_and_unpacked_are_the_same(tmp_path):
    for name in MNIST_SHA256:
        (tmp_path / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    packed, unpacked = mnist(), mnist(tmp_path)
    assert packed.x_train.shape == (60_000, 1, 28, 28)
    assert packed.x_test.shape == (10_000, 1, 28, 28)
    assert packed.y_train.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(packed, part), getattr(unpacked, part))


@needs_mnist
def test_files_that_are_not_mnist_are_refused(tmp_path):
    for name in MNIST_SHA256:
        shutil.copy(folder / f"{name}.gz", tmp_path)
    victim = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(victim.read_bytes()))
    content[-1] ^= 1
    victim.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(DataError, match="does not hold MNIST's t10k-labels"):
        mnist(tmp_path)
    victim.write_bytes(victim.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a whole gzip file"):
        mnist(tmp_path)
    victim.unlink()
    with pytest.raises(DataError, match="does not exist"):
        mnist(tmp_path)


@pytest.fixture
def server(tmp_path):
    """A real HTTP server on the loopback interface over a folder; gives its address and the folder."""
    root = tmp_path / "served"
    root.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/", root
        running.shutdown()
        thread.join()


@needs_mnist
def test_mnist_is_downloaded_once_and_then_read_from_the_cache(server, tmp_path, monkeypatch):
    address, root = server
    for name in MNIST_SHA256:
        shutil.copy(folder / f"{name}.gz", root)
    monkeypatch.delenv("NETTRIM_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = mnist(mirror=address)
    for path in root.iterdir():
        path.unlink()
    assert torch.equal(mnist(mirror=address).x_test, first.x_test)


def test_a_download_that_fails_says_what_to_do(server, tmp_path, monkeypatch):
    address, _ = server
    monkeypatch.delenv("NETTRIM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"could not be downloaded.*set NETTRIM_DATA.*mnist5k"):
        mnist(mirror=address)


@needs_spirals
def test_the_papers_spirals():
    data = spirals()
    assert data.name == "spirals"
    assert data.x_train.shape == (200, 2)
    assert sorted(data.y_train.bincount().tolist()) == [100, 100]
    assert float(data.x_train.abs().max()) < 1.5


def test_spirals_are_generated_where_there_is_no_file_and_the_name_says_so(monkeypatch):
    monkeypatch.delenv("NETTRIM_DATA", raising=False)
    data, again = spirals(n_samples=300, seed=2), spirals(n_samples=300, seed=2)
    assert data.name == "spirals (generated)"
    assert torch.equal(data.x_train, again.x_train)
    # Two arms, each the other turned by 180 degrees, so that no line separates them.
    x, y = data.x_train.numpy(), data.y_train.numpy()
    design = np.column_stack([x, np.ones(len(x))])
    fitted = design @ np.linalg.lstsq(design, 2.0 * y - 1.0, rcond=None)[0]
    assert ((fitted > 0) == y).mean() < 0.8


def test_a_file_that_is_not_the_spirals_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        spirals(tmp_path / "spiral.csv")
    (tmp_path / "spiral.csv").write_text("x,y,color\n0,0,Red\n")
    with pytest.raises(DataError, match=r"is not the spiral\.csv"):
        spirals(tmp_path / "spiral.csv")
