"""Makes the folders in which the site keeps what is its own: secrets, database, store.

Standard library only. A folder that is there already keeps its mode: that is its owner's choice.
"""

from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Make the folder, and those above it that are missing, for this user alone (0700).

    Raises:
        OSError: it can't be made.
    """
    if path.is_dir():
        return
    make_private_folder(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
