"""SVHN's files are read as their authors wrote them, and what is no such file is refused."""

import re

import numpy as np
import pytest
import torch
from scipy.io import savemat

from nettrim import DataError
from nettrim.data import load
from nettrim.svhn import FILES, svhn


def written(folder, n=12, **other):
    """Write both files, as MATLAB's version 5 has them: images last, labels a column, 10 for the digit 0."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    held = {}
    for name in FILES:
        X = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        y = (np.arange(n, dtype=np.uint8) % 10 + 1)[:, None]
        held[name] = {"X": X, "y": y} | other
        savemat(folder / name, held[name], do_compression=True)
    return held


def test_images_and_digits_are_those_of_the_files(tmp_path, monkeypatch):
    held = written(tmp_path / "svhn")
    data = svhn(tmp_path / "svhn")
    for name, x, y in ((FILES[0], data.x_train, data.y_train), (FILES[1], data.x_test, data.y_test)):
        assert x.shape == (12, 3, 32, 32) and x.dtype == torch.float32 and y.dtype == torch.int64 and x.is_contiguous()
        row, column, color, image = 3, 17, 2, 5
        assert x[image, color, row, column].item() == np.float32(
            held[name]["X"][row, column, color, image] / np.float32(255)
        )
        assert y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]  # the label 10 is the digit 0
    monkeypatch.setenv("NETTRIM_DATA", str(tmp_path))
    again = load("svhn")
    assert again.name == "svhn" and torch.equal(again.x_test, data.x_test)


def test_a_file_that_is_missing_is_named(tmp_path, monkeypatch):
    written(tmp_path)
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(DataError, match=f"{FILES[1]} is not in {re.escape(str(tmp_path))}; put"):
        svhn(tmp_path)
    monkeypatch.setenv("NETTRIM_DATA", str(tmp_path))
    with pytest.raises(DataError, match=re.escape(f"{FILES[1]} is not in {tmp_path / 'svhn'} or {tmp_path};")):
        load("svhn")
    monkeypatch.delenv("NETTRIM_DATA")
    with pytest.raises(DataError, match="NETTRIM_DATA is not set"):
        load("svhn")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"X": np.zeros((32, 32, 3, 12))}, "X must be bytes of shape (32, 32, 3, n); got float64"),
        ({"X": np.zeros((32, 32, 12), dtype=np.uint8)}, "X must be bytes of shape (32, 32, 3, n)"),
        ({"y": np.ones((11, 1), dtype=np.uint8)}, "y must be 12 numbers from 1 to 10; got 11 from 1 to 1"),
        ({"y": np.arange(12, dtype=np.uint8)[:, None]}, "y must be 12 numbers from 1 to 10; got 12 from 0 to 11"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, other, said):
    written(tmp_path, **other)
    with pytest.raises(DataError, match=re.escape(said)):
        svhn(tmp_path)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n\x1a\n", b"x" * 4000])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    written(tmp_path)
    (tmp_path / FILES[0]).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a MATLAB file with X and y"):
        svhn(tmp_path)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    written(tmp_path)
    path = tmp_path / FILES[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        svhn(tmp_path)
