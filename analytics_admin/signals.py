"""What a site may listen to.

``breaker_state_changed``: ``name``, ``from_state``, ``to_state``, ``cause``; sent by the process
that made the transition; cause "local" while the store is away and each process is on its own.
``breaker_store_changed``: ``reason`` (words why the store was lost, None when it is back).
``search_cache_cleared``: sender None; ``operation`` (the finished audit row), ``outcome``, whose
``mode`` is "hard" or "soft", and which has ``tags`` (how many) if it was a clear by tags.
``operation_finished``: sender Operation; ``operation`` (finished or failed).
A receiver that raises is logged and harms neither the act nor the other receivers.
"""

from django.dispatch import Signal

breaker_state_changed = Signal()
breaker_store_changed = Signal()
search_cache_cleared = Signal()
operation_finished = Signal()
