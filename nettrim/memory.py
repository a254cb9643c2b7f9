"""The largest resident set of this process over a while, from Linux's own account; other systems do not tell when it was."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")


class Peak:
    """The largest resident set since this object was made."""

    def __init__(self) -> None:
        try:
            (_PROCESS / "clear_refs").write_text("5")
            self.known = True
        except OSError:  # no Linux, or a sandbox that forbids it
            self.known = False

    @property
    def size(self) -> int | None:
        """In bytes; None where the system does not tell."""
        if not self.known:
            return None
        lines = (_PROCESS / "status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
