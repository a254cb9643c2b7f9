"""Training images flipped and moved at random: the usual augmentation of small photographs and of digits."""

from numbers import Integral

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own spelling)


def augmented(images: Tensor, generator: torch.Generator, *, shift: int = 4, flip: bool = True) -> Tensor:
    """Flip half of the images left to right and move each by a few pixels, what is uncovered mirroring what is inside.

    Parameters
    ----------
    images : torch.Tensor
        Shape ``(n, channels, height, width)``; left unchanged.
    generator : torch.Generator
        Of the draws.
    shift : int, optional
        Pixels, at most, in each direction.
    flip : bool, optional
        Whether half of the images are flipped; digits must not be.

    Returns
    -------
    torch.Tensor
        Images of the same shape, each pixel of which is one of the image it comes from.

    Raises
    ------
    ValueError
        If these are no images of more than ``shift`` pixels in height and width, or ``shift`` is no number of pixels.
    """
    if not isinstance(shift, Integral) or shift < 0:
        raise ValueError(f"shift must be a whole number of pixels, at least 0; got {shift!r}")
    if images.ndim != 4 or min(images.shape[2:]) <= shift:
        raise ValueError(
            f"augmenting takes images (n, channels, height, width) of more than {shift} pixels in height and width; got "
            f"shape {tuple(images.shape)}"
        )
    n, channels, height, width = images.shape
    down, right = torch.randint(2 * shift + 1, (2, n, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)  # (n, height), (n, width)
    if flip:
        flipped = torch.rand(n, 1, generator=generator) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    padded = F.pad(images, (shift,) * 4, mode="reflect")
    image, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
