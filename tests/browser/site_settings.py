"""The site as browsers meet it in these tests: itself, but its pages look each second for news."""

from project.settings import *  # noqa: F403  a settings module extends another in this way
from project.settings import ANALYTICS_ADMIN

ANALYTICS_ADMIN = {**ANALYTICS_ADMIN, "CONSOLE_REFRESH_SECONDS": 1}
