"""Makes the folders and files in which the site keeps its secrets, database and store.

Standard library only. What exists keeps its mode: its owner chose it.
"""

import os
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Create the folder and its missing parents, readable by this user alone (0700).

    Raises:
        OSError: the folder cannot be created.
    """
    if path.is_dir():
        return
    make_private_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Create the empty file, readable by this user alone (0600), whoever made its folder.

    Raises:
        OSError: the file cannot be created.
    """
    if not path.exists():
        os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, new ones with mode 0600: an ``opener`` for ``open()``."""
    return os.open(path, flags, 0o600)
