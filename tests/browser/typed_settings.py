"""The same site, whose operators have to type its name before an operation."""

from tests.browser.site_settings import *  # noqa: F403  a settings module extends another in this way
from tests.browser.site_settings import ANALYTICS_ADMIN

ANALYTICS_ADMIN = {**ANALYTICS_ADMIN, "REQUIRE_ENVIRONMENT_NAME": True}
