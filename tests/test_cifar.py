"""CIFAR-10: real JPEGs in archives that the test packs, the cache, and refusals of what is not such an archive."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nettrim import DataError, cifar
from nettrim.cifar import ARCHIVE, ARCHIVE_SHA256, cifar10, decode, decoded, listed
from nettrim.data import load

real = Path(os.environ.get("NETTRIM_DATA", "")) / ARCHIVE
needs_cifar = pytest.mark.skipif(
    "NETTRIM_DATA" not in os.environ or not real.is_file(), reason=f"NETTRIM_DATA names no folder with {ARCHIVE}"
)

# At quality 100 an image of one gray has a whole number in each block and nothing else: it comes back exactly.
GRAYS = {
    "few/train/cat/0.jpg": 10,
    "few/train/cat/1.jpg": 20,
    "few/train/ant/1.jpg": 30,
    "few/train/ant/0.jpg": 40,
    "few/test/cat/0.jpg": 50,
    "few/test/ant/0.jpg": 60,
}


def jpeg(color, size=(32, 32)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


def pack(path, members):
    """Write an archive of these members, name to bytes; folders are members too, as ``tar`` writes them."""
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo("few")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def members():
    return {name: jpeg((gray, gray, gray)) for name, gray in GRAYS.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache; gives its folder for CIFAR-10."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cifar._cache()


def test_images_come_in_the_order_of_names_then_classes(tmp_path, members):
    arrays = decode(pack(tmp_path / "a.tar.gz", members))
    assert {name: array.dtype for name, array in arrays.items()} == dict.fromkeys(arrays, np.dtype(np.uint8))
    assert arrays["x_train"].shape == (4, 3, 32, 32) and arrays["x_test"].shape == (2, 3, 32, 32)
    assert arrays["y_train"].tolist() == [0, 1, 0, 1] and arrays["y_test"].tolist() == [0, 1]
    for part, grays in (("train", [40, 10, 30, 20]), ("test", [60, 50])):
        assert np.array_equal(arrays[f"x_{part}"], np.tile(np.reshape(grays, (-1, 1, 1, 1)), (1, 3, 32, 32)))


def test_channels_are_red_green_blue_and_rows_run_down(tmp_path, members):
    image = Image.new("RGB", (32, 32), (200, 100, 0))
    image.paste((0, 100, 200), (0, 16, 32, 32))  # the lower half, whole blocks of 8
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100, subsampling=0)
    members["few/test/ant/0.jpg"] = file.getvalue()
    found = decode(pack(tmp_path / "a.tar.gz", members))["x_test"][0].astype(int)
    upper, lower = found[:, :16].reshape(3, -1), found[:, 16:].reshape(3, -1)
    # Rounding: half a step of luma, half a step of chroma times at most 1.772, half a step of the result. Less than 2.
    assert np.abs(upper - [[200], [100], [0]]).max() < 2 and np.abs(lower - [[0], [100], [200]]).max() < 2


def test_images_are_decoded_once_and_then_read_from_the_cache(tmp_path, members, cache):
    archive = pack(tmp_path / "a.tar.gz", members)
    first = decoded(archive, "key")
    assert [path.name for path in cache.iterdir()] == ["key.npz"]  # and nothing half written beside it
    archive.unlink()
    again = decoded(archive, "key")
    assert first.keys() == again.keys() and all(np.array_equal(first[name], again[name]) for name in first)
    with pytest.raises(DataError, match="not a whole"):
        decoded(archive, "another key")


SPOILS = {
    "cut off": lambda raw: raw[:-100],
    "empty": lambda raw: b"",
    "other pixels": lambda raw: raw.replace(bytes([40] * 9), bytes([41] * 9)),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_spoiled_cache_is_made_again(tmp_path, members, cache, spoil):
    archive = pack(tmp_path / "a.tar.gz", members)
    first = decoded(archive, "key")
    whole = (cache / "key.npz").read_bytes()
    assert spoil(whole) != whole
    (cache / "key.npz").write_bytes(spoil(whole))
    assert np.array_equal(decoded(archive, "key")["x_train"], first["x_train"])
    archive.unlink()
    assert np.array_equal(decoded(archive, "key")["x_train"], first["x_train"])


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, members, cache):
    cache.parent.parent.write_text("a file where the folder should be")
    assert len(decoded(pack(tmp_path / "a.tar.gz", members), "key")["x_train"]) == 4


def test_load_takes_the_archive_from_the_folder_of_the_environment(tmp_path, members, monkeypatch):
    archive = pack(tmp_path / ARCHIVE, members)
    monkeypatch.setattr(cifar, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setenv("NETTRIM_DATA", str(tmp_path))
    data, given = load("cifar10"), cifar10(tmp_path)
    assert data.name == "cifar10" and data.x_train.dtype == torch.float32 and data.y_train.dtype == torch.int64
    assert torch.equal(data.x_train[:, 2, 5, 7], torch.tensor([40.0, 10.0, 30.0, 20.0]) / 255)
    assert data.y_train.tolist() == [0, 1, 0, 1] and data.x_test.shape == (2, 3, 32, 32)
    assert torch.equal(given.x_test, data.x_test)


def test_an_archive_that_is_not_there_is_asked_for(tmp_path, monkeypatch, cache):
    with pytest.raises(DataError, match=f"{ARCHIVE} is not in {tmp_path}; put .* set NETTRIM_DATA"):
        cifar10(tmp_path)
    monkeypatch.setenv("NETTRIM_DATA", str(tmp_path))
    places = f"{tmp_path / 'cifar10'} or {tmp_path} or {cache};"
    with pytest.raises(DataError, match=f"is not in {places} .*Nothing is downloaded"):
        load("cifar10")


def test_another_archive_is_refused(tmp_path, members):
    pack(tmp_path / ARCHIVE, members)
    with pytest.raises(DataError, match="is not the CIFAR-10 archive"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"few/extra.jpg": b""}, r"holds few/extra\.jpg; wanted .* and nothing else"),
        ({"few/valid/ant/0.jpg": b""}, r"holds few/valid/ant/0\.jpg"),
        ({"few/test/ant/0.png": b""}, r"holds few/test/ant/0\.png"),
        ({"few/test/ant/0.jpg": None}, r"the same classes in train and in test; got \['ant', 'cat'\] and \['cat'\]"),
        ({"few/test/ant/0.jpg": None, "few/test/cat/0.jpg": None}, "holds no test images"),
        ({"few/test/ant/0.jpg": b"no image"}, r"test/ant/0\.jpg in .* is not a JPEG that can be read"),
        ({"few/test/ant/0.jpg": jpeg((1, 2, 3))[:-200]}, "is not a JPEG that can be read"),
        ({"few/test/ant/0.jpg": jpeg((1, 2, 3), (28, 32))}, "has 28 x 32 pixels; wanted 32 x 32"),
    ],
)
def test_what_is_not_such_an_archive_is_refused(tmp_path, members, changes, said):
    members = {name: content for name, content in (members | changes).items() if content is not None}
    with pytest.raises(DataError, match=said):
        decode(pack(tmp_path / "a.tar.gz", members))


def test_a_broken_archive_is_refused(tmp_path, members):
    archive = pack(tmp_path / "a.tar.gz", members)
    whole = archive.read_bytes()
    for broken in (b"", b"not an archive", whole[: len(whole) // 2], whole[:300] + bytes(100) + whole[400:]):
        archive.write_bytes(broken)
        with pytest.raises(DataError, match=r"is not a whole \.tar\.gz file"):
            decode(archive)


@needs_cifar
def test_the_real_archive_holds_ten_classes_in_turn():
    assert hashlib.sha256(real.read_bytes()).hexdigest() == ARCHIVE_SHA256
    for part, images in listed(real).items():
        classes = [label for _, label, _ in images]
        assert len(classes) == {"train": 50_000, "test": 10_000}[part]
        assert classes[:10] == sorted(set(classes)) and classes == classes[:10] * (len(classes) // 10)
        _, _, content = images[-1]
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (32, 32)
