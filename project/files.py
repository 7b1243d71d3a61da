"""Makes the folders in which the site keeps its secrets, database and store.

Standard library only. An existing folder keeps its mode: its owner chose it.
"""

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
