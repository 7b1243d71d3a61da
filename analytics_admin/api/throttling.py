"""How often a user may act and an address may try to sign in: the scopes, their rates and keys.

Who counts, and what happens while the counters' store is down, is not decided here.
"""

import math
from hashlib import sha256
from typing import Any

from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

from analytics_admin.api.rate_limits import WindowCounter
from analytics_admin.conf import DEFAULT_THROTTLE_RATES, Rate, app_settings, parse_rate

counter = WindowCounter()


class _RateThrottle(BaseThrottle):
    """Allow as many requests as the scope's rate says; ``None`` as rate allows all."""

    scope = ""

    def __init__(self) -> None:
        self._left = 0.0

    def identify(self, request: Request) -> str:
        """Return whose requests are counted together."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: Any) -> bool:
        rate = current_rate(self.scope)
        if rate is None:
            return True
        who = sha256(self.identify(request).encode(errors="backslashreplace")).hexdigest()[:32]
        hits, self._left = counter.hit(f"analytics_admin.throttle.{self.scope}.{who}", rate.seconds)
        return hits <= rate.limit

    def wait(self) -> float:
        return max(1, math.ceil(self._left))


class WriteThrottle(_RateThrottle):
    """Limits the acts of one user."""

    scope = "write"

    def identify(self, request: Request) -> str:
        return str(request.user.pk)


class LoginThrottle(_RateThrottle):
    """Limits the attempts to sign in from one address."""

    scope = "login"

    def identify(self, request: Request) -> str:
        """Return the address; ``X-Forwarded-For`` is believed as far as NUM_PROXIES reaches."""
        proxies = api_settings.NUM_PROXIES or 0  # DRF takes None for "believe it all"
        if proxies > 0 and (forwarded := request.headers.get("X-Forwarded-For")):
            hops = forwarded.split(",")
            return hops[-min(proxies, len(hops))].strip()
        return str(request.META.get("REMOTE_ADDR", ""))


def current_rate(scope: str) -> Rate | None:
    """Return the scope's rate as it is set now; a malformed one is the system check's to report."""
    default = DEFAULT_THROTTLE_RATES[scope]
    given = app_settings().throttle_rates.get(scope, default)
    try:
        return parse_rate(given)
    except ValueError:
        return parse_rate(default)
