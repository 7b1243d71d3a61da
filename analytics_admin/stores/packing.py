"""Commands as the bytes that a server reads."""

from typing import Any

from redis.connection import HiredisRespSerializer


class CommandPacker(HiredisRespSerializer):
    """Packs a command's numbers as the text that they are sent as.

    While hiredis (3.5) makes that text itself, a signal whose handler raises, such as Ctrl-C's,
    ends the process with a segmentation fault.
    """

    def pack(self, *args: Any) -> Any:
        texts: Any = (str(arg) if isinstance(arg, int | float) else arg for arg in args)
        return super().pack(*texts)
