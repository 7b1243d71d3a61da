"""Signals for sites. An exception in a receiver is logged and affects nothing else.

``breaker_state_changed``: ``name``, ``from_state``, ``to_state``, ``cause``; sent by the process
that made the transition. The cause is "local" while the store is down and each process decides
alone.
``breaker_store_changed``: ``reason`` (why the store was lost; None when it is back).
``search_cache_cleared``: sender None; ``operation`` (the finished audit row), ``outcome``. Its
``mode`` is "hard" or "soft"; a clear by tags has ``tags``, their number.
``operation_finished``: sender Operation; ``operation`` (finished or failed).
"""

from django.dispatch import Signal

breaker_state_changed = Signal()
breaker_store_changed = Signal()
search_cache_cleared = Signal()
operation_finished = Signal()
