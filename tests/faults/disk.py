"""A disk that can lose power: an ext4 file system in an image file, mounted through a loop device. Needs root.

What was synced is in the image; what was only written is in the kernel's memory. So a copy of the image, taken at a moment
when nothing writes, is what a power cut at that moment would leave. The moment is made by stopping the daemon (SIGSTOP)
until each of its threads has come to rest; the kernel's own writing back begins too late to disturb (`commit=`, and 30
seconds for data).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SIZE = 256 * 1024 * 1024


class Disk:
    """One image, mounted at `mount`."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError when there is no mounting here (not root, no loop device)."""
        self.mount = directory / "disk"
        self._image = directory / "disk.img"
        self._copy = directory / "copy.img"
        self.mount.mkdir()
        with self._image.open("wb") as file:
            file.truncate(_SIZE)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._attach()

    def photograph(self) -> None:
        """Keep the disk as it is at this moment. Nothing may write meanwhile."""
        shutil.copyfile(self._image, self._copy)

    def power_up(self) -> None:
        """Go on with the disk as it was photographed. All processes that used it have ended."""
        self.close()
        self._copy.replace(self._image)
        self._attach()

    def close(self) -> None:
        """Unmount."""
        _run("umount", str(self.mount))

    def _attach(self) -> None:
        _run("mount", "-o", "loop,commit=300", str(self._image), str(self.mount))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as trouble:
        raise OSError(f"{' '.join(command)}: {trouble.stderr.strip()}") from trouble
