"""The engines' logs, which harm no call and no thread."""

import logging
from typing import Any

from analytics_admin.stores.interruption import is_injected, is_raised_by_handler


class ContainedLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose calls raise nothing that a site's filter or handler raises."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        try:
            super().log(level, msg, *args, **({"stacklevel": 2} | options))
        except (Exception, SystemExit) as error:
            if is_raised_by_handler(error) or is_injected(error):
                raise


def get_logger(name: str) -> ContainedLogger:
    """Return the contained logger of this name."""
    return ContainedLogger(logging.getLogger(name))
