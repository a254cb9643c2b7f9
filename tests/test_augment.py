"""Augmented images: what they are made of, and what is refused."""

import numpy as np
import pytest
import torch

from nettrim.augment import augmented


def images(n, seed=0, size=(9, 11)):
    """Random images ``(n, 2, height, width)`` in [0, 1)."""
    return torch.rand(n, 2, *size, generator=torch.Generator().manual_seed(seed))


def test_augmented_images_are_crops_of_mirrored_ones_flipped_or_not():
    given = images(400)
    before = given.clone()
    found = augmented(given, torch.Generator().manual_seed(2)).numpy()
    assert torch.equal(given, before) and found.shape == given.shape
    draws = []
    for image, came in zip(given.numpy(), found, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="reflect")
        crops = {(i, j): padded[:, i : i + 9, j : j + 11] for i in range(9) for j in range(9)}
        fits = [(*at, flip) for at, crop in crops.items() for flip in (1, -1) if np.array_equal(crop[:, :, ::flip], came)]
        assert len(fits) == 1
        draws.append(fits[0])
    # 400 images miss one of 9 shifts with a probability of (8/9)^400 < 1e-20; flips are 200, give or take 5 times 10.
    down, right, flip = np.transpose(draws)
    assert set(down) == set(right) == set(range(9)) and abs(np.sum(flip == 1) - 200) < 50
    assert abs(np.corrcoef(np.transpose(draws).astype(float))[np.triu_indices(3, 1)]).max() < 0.25  # 5 deviations of 1/20


def test_digits_are_moved_and_not_flipped():
    given = images(60)
    draws = set()
    for image, came in zip(
        given.numpy(), augmented(given, torch.Generator().manual_seed(2), shift=2, flip=False), strict=True
    ):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect")
        fits = [(i, j) for i in range(5) for j in range(5) if np.array_equal(padded[:, i : i + 9, j : j + 11], came)]
        assert len(fits) == 1
        draws.update(fits)
    assert len(draws) > 12  # of 25, 60 draws leave out 25 (24/25)^60 = 2 on average


def test_augmenting_takes_images_larger_than_the_shift():
    for wrong in (torch.zeros(3, 4), images(2, size=(4, 9)), images(2, size=(9, 4))):
        with pytest.raises(ValueError, match=r"takes images \(n, channels, height, width\) of more than 4 pixels"):
            augmented(wrong, torch.Generator())
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(ValueError, match="shift must be a whole number of pixels, at least 0; got"):
            augmented(images(2), torch.Generator(), shift=wrong)
    assert torch.equal(augmented(images(2), torch.Generator(), shift=np.int64(0), flip=False), images(2))
