"""System checks of uWSGI's options, which only a process that it runs can read.

No server runs system checks, so such a process logs what they find when it starts.
"""

import sys
from typing import Any

from django.core.checks import CheckMessage, register

from analytics_admin.checks.settings import TAG, warning
from analytics_admin.stores.contained_logger import get_logger
from analytics_admin.stores.threads import may_start_threads, uwsgi_options

logger = get_logger("analytics_admin.checks")


@register(TAG)
def check_server(**kwargs: Any) -> list[CheckMessage]:
    """Report options with which uWSGI runs no threads, or no hooks at the end of a process."""
    messages: list[CheckMessage] = []
    if not may_start_threads():
        text = "uWSGI runs no threads here: protected calls report and read for themselves"
        messages.append(warning("W008", text, "Start uWSGI with --enable-threads or --threads."))
    if "skip-atexit" in uwsgi_options():
        text = "uWSGI runs no hooks as its processes end: what they counted last is lost"
        messages.append(warning("W012", text, "Start uWSGI without --skip-atexit."))
    return messages


def log_problems() -> None:
    """Log what the checks find of the server that runs this process."""
    if "uwsgi" in sys.modules:
        for problem in check_server():
            logger.warning("%s %s (%s)", problem.msg, problem.hint, problem.id)
