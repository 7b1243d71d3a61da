"""The operator's acts and questions: the only door into breakers and caching.

The admin, the API and the commands call these and nothing beneath them. Every act is permitted,
audited and announced here, so that it is the same act through each door.
"""

from analytics_admin.breakers.listing import SORTS as BREAKER_SORTS
from analytics_admin.breakers.status import BreakerStatus
from analytics_admin.caching.clear.tags import MAX_TAGS_PER_CLEAR
from analytics_admin.caching.keys import MAX_TAG_CHARS
from analytics_admin.permissions import is_allowed
from analytics_admin.services.audit import Actor, non_atomic
from analytics_admin.services.audit_log import (
    MAX_OPERATIONS_PER_PAGE,
    MAX_SEARCH_LENGTH,
    OPERATION_CHANNELS,
    OPERATION_KINDS,
    OPERATION_STATUSES,
    SEARCHED_FIELDS,
    OperationFilter,
    OperationPage,
    describe_operation,
    filter_by_status,
    page_operations,
    plain_instant,
    plain_operation,
    search_operations,
)
from analytics_admin.services.breakers.arguments import DEFAULT_HOLD_SECONDS
from analytics_admin.services.breakers.followup import (
    BreakerFollowUp,
    FollowUp,
    FollowUpReport,
    follow_up_breakers,
)
from analytics_admin.services.breakers.operations import (
    CONTROLS,
    allow_probe,
    forget_breaker,
    reset_circuit_breakers,
    set_breaker_control,
    set_breaker_controls,
)
from analytics_admin.services.breakers.policies import PolicyOption, explain_policy
from analytics_admin.services.breakers.queries import (
    BREAKER_STATES,
    MAX_BREAKERS_PER_PAGE,
    describe_breaker,
    list_breakers,
    page_breakers,
)
from analytics_admin.services.breakers.timeline import (
    BreakerEvent,
    build_timeline,
    list_operations_on_breaker,
)
from analytics_admin.services.breakers.types import (
    BreakerActivity,
    BreakerDetail,
    BreakerPage,
    BreakerPeriod,
    BreakerTransition,
    as_plain,
)
from analytics_admin.services.errors import (
    AnotherClear,
    AuditUnavailable,
    BreakerChanged,
    BreakerInUse,
    BreakerNotOpen,
    DuplicateOperation,
    NothingToUndo,
    OperationDenied,
    OperationFailed,
    OperationRejected,
    OperatorError,
    StoreUnavailable,
    UnknownBreakers,
    UnknownOperation,
)
from analytics_admin.services.runner import (
    FAILURE_MESSAGES,
    MAX_REASON_LENGTH,
    OperationResult,
    deny,
    failure_message,
)
from analytics_admin.services.search_cache.clears import (
    clear_mode_of,
    clear_tags_of,
    list_clears_since,
    list_recent_clears,
)
from analytics_admin.services.search_cache.operations import (
    CLEAR_MODES,
    clear_search_cache,
    sweep_search_cache,
    undo_clear,
)
from analytics_admin.services.search_cache.queries import (
    MAX_HISTORY_MINUTES,
    SearchCacheCounts,
    SearchCacheMinute,
    SearchCacheStatus,
    SearchCacheSweep,
    describe_search_cache,
    plain_search_cache,
)

__all__ = [
    "BREAKER_SORTS",
    "BREAKER_STATES",
    "CLEAR_MODES",
    "CONTROLS",
    "DEFAULT_HOLD_SECONDS",
    "FAILURE_MESSAGES",
    "MAX_BREAKERS_PER_PAGE",
    "MAX_HISTORY_MINUTES",
    "MAX_OPERATIONS_PER_PAGE",
    "MAX_REASON_LENGTH",
    "MAX_SEARCH_LENGTH",
    "MAX_TAGS_PER_CLEAR",
    "MAX_TAG_CHARS",
    "OPERATION_CHANNELS",
    "OPERATION_KINDS",
    "OPERATION_STATUSES",
    "SEARCHED_FIELDS",
    "Actor",
    "AnotherClear",
    "AuditUnavailable",
    "BreakerActivity",
    "BreakerChanged",
    "BreakerDetail",
    "BreakerEvent",
    "BreakerFollowUp",
    "BreakerInUse",
    "BreakerNotOpen",
    "BreakerPage",
    "BreakerPeriod",
    "BreakerStatus",
    "BreakerTransition",
    "DuplicateOperation",
    "FollowUp",
    "FollowUpReport",
    "NothingToUndo",
    "OperationDenied",
    "OperationFailed",
    "OperationFilter",
    "OperationPage",
    "OperationRejected",
    "OperationResult",
    "OperatorError",
    "PolicyOption",
    "SearchCacheCounts",
    "SearchCacheMinute",
    "SearchCacheStatus",
    "SearchCacheSweep",
    "StoreUnavailable",
    "UnknownBreakers",
    "UnknownOperation",
    "allow_probe",
    "as_plain",
    "build_timeline",
    "clear_mode_of",
    "clear_search_cache",
    "clear_tags_of",
    "deny",
    "describe_breaker",
    "describe_operation",
    "describe_search_cache",
    "explain_policy",
    "failure_message",
    "filter_by_status",
    "follow_up_breakers",
    "forget_breaker",
    "is_allowed",
    "list_breakers",
    "list_clears_since",
    "list_operations_on_breaker",
    "list_recent_clears",
    "non_atomic",
    "page_breakers",
    "page_operations",
    "plain_instant",
    "plain_operation",
    "plain_search_cache",
    "reset_circuit_breakers",
    "search_operations",
    "set_breaker_control",
    "set_breaker_controls",
    "sweep_search_cache",
    "undo_clear",
]
