"""Cases of one rule within one test, where a test for each would take longer than all of them."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*which: object) -> Iterator[None]:
    """Name the case in the block's failure."""
    try:
        yield
    except BaseException as error:
        error.add_note("in the case: " + ", ".join(map(str, which)))
        raise
