"""Circuit breakers shared by every process of a site.

catalog = circuit_breaker("catalog", failure_threshold=5, wait_duration_in_open_state=30)

@catalog
def fetch(query): ...
"""

from analytics_admin.breakers.breaker import CircuitBreaker, CircuitOpenError
from analytics_admin.breakers.permit import Permit
from analytics_admin.breakers.policy import BreakerPolicy, PolicyOptions
from analytics_admin.breakers.runtime import circuit_breaker, get_breaker

__all__ = [
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitOpenError",
    "Permit",
    "PolicyOptions",
    "circuit_breaker",
    "get_breaker",
]
