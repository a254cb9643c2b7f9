"""Whole numbers in bytes, and bytes that are read one part behind the other: what is not there is refused."""

from __future__ import annotations

from nettrim.errors import ModelError


def number(value: int) -> bytes:
    """Return a whole number in LEB128: seven bits a byte, low ones first, the highest bit of all bytes but the last set.

    Parameters
    ----------
    value : int
        From 0 on.

    Returns
    -------
    bytes
        One or more.
    """
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


class Reader:
    """Bytes taken one part behind the other; a part that is not there is refused.

    Parameters
    ----------
    content : bytes
        What is read.
    at : int
        Where to begin.
    """

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self.content) - self.at

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        bytes
            So many.

        Raises
        ------
        ModelError
            If so many are not left.
        """
        if count > self.left:
            raise wrong(f"{count} bytes are to follow byte {self.at}, and {self.left} do")
        self.at += count
        return self.content[self.at - count : self.at]

    def number(self) -> int:
        """Return the next whole number.

        Returns
        -------
        int
            From LEB128.
        """
        value, shift = 0, 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value


def wrong(what: str) -> ModelError:
    """Return the error of a file that cannot be what ``compress`` wrote.

    Parameters
    ----------
    what : str
        Is wrong with it.

    Returns
    -------
    ModelError
        To be raised.
    """
    return ModelError(f"the compressed file is damaged: {what}")
