"""What a site may listen to.

``breaker_state_changed``: sender CircuitBreaker; ``name``, ``from_state``, ``to_state``, ``cause``.
``search_cache_cleared``: sender None; ``operation`` (the finished audit row), ``outcome``.
``operation_finished``: sender Operation; ``operation`` (finished or failed).
A receiver that raises is logged and harms neither the act nor the other receivers.
"""

from django.dispatch import Signal

breaker_state_changed = Signal()
search_cache_cleared = Signal()
operation_finished = Signal()
