"""The Python API for sites: operations on breakers and the search cache, and queries.

Operations check permissions, write an audit row and send signals, as those of the admin, the REST
API and the commands do. All arguments are keyword-only; every error is an OperatorError, but for
TypeError and ValueError, which are mistakes in the calling code.
"""

from analytics_admin.services.audit import Actor
from analytics_admin.services.audit_pruning import prune_operations
from analytics_admin.services.audit_queries import (
    OperationFilter,
    describe_operation,
    page_operations,
)
from analytics_admin.services.breakers.operations import (
    allow_probe,
    allow_probes,
    forget_breaker,
    forget_breakers,
    reset_circuit_breakers,
    set_breaker_control,
    set_breaker_controls,
)
from analytics_admin.services.breakers.processes import ProcessStatus, list_processes
from analytics_admin.services.breakers.queries import describe_breaker, list_breakers, page_breakers
from analytics_admin.services.errors import (
    DuplicateOperation,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OperatorError,
    StoreUnavailable,
    UnknownBreakers,
)
from analytics_admin.services.json import to_json
from analytics_admin.services.obedience import MissingProcess, Obedience
from analytics_admin.services.runner import OperationResult
from analytics_admin.services.search_cache.operations import (
    clear_search_cache,
    sweep_search_cache,
    undo_clear,
)
from analytics_admin.services.search_cache.queries import (
    HotFunction,
    describe_search_cache,
    list_hot_functions,
)
from analytics_admin.services.tokens import revoke_tokens

__all__ = [
    "Actor",
    "DuplicateOperation",
    "HotFunction",
    "MissingProcess",
    "Obedience",
    "OperationDenied",
    "OperationFailed",
    "OperationFilter",
    "OperationRejected",
    "OperationResult",
    "OperatorError",
    "ProcessStatus",
    "StoreUnavailable",
    "UnknownBreakers",
    "allow_probe",
    "allow_probes",
    "clear_search_cache",
    "describe_breaker",
    "describe_operation",
    "describe_search_cache",
    "forget_breaker",
    "forget_breakers",
    "list_breakers",
    "list_hot_functions",
    "list_processes",
    "page_breakers",
    "page_operations",
    "prune_operations",
    "reset_circuit_breakers",
    "revoke_tokens",
    "set_breaker_control",
    "set_breaker_controls",
    "sweep_search_cache",
    "to_json",
    "undo_clear",
]
