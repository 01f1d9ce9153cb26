"""A small disk that can be filled: a tmpfs, where this user may mount one."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SIZE = "96m"
_PIECE = bytes(256 * 1024)


class Volume:
    """One disk; without the right to mount, a plain directory that nothing can fill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.small = _run("mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(folder))

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Take what is left of it."""
        with self._ballast.open("wb", buffering=0) as file:
            for piece in (_PIECE, _PIECE[:512]):
                try:
                    while file.write(piece):
                        pass
                except OSError:  # no space left, as was wanted
                    continue

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the disk and all that is on it."""
        if self.small:
            _run("umount", "--lazy", str(self.folder))


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except FileNotFoundError:
        return False
