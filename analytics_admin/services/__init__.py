"""The operator's acts and questions: the only door into breakers and caching.

The admin, the API and the commands call these and nothing beneath them. Every act is permitted,
audited and announced here, so that it is the same act through each door.
"""

from analytics_admin.breakers.changes import BreakerChanged, BreakerInUse, BreakerNotOpen
from analytics_admin.breakers.listing import SORTS as BREAKER_SORTS
from analytics_admin.breakers.registry import UnknownBreakers
from analytics_admin.breakers.status import BreakerStatus
from analytics_admin.caching.clear.tags import MAX_TAGS_PER_CLEAR
from analytics_admin.caching.keys import MAX_TAG_CHARS
from analytics_admin.permissions import Act, may
from analytics_admin.services.audit import (
    Actor,
    AlreadyOnRecord,
    AuditUnavailable,
    outside_transactions,
)
from analytics_admin.services.audit_log import (
    LARGEST_PAGE_OF_OPERATIONS,
    LONGEST_SEARCH,
    OPERATION_CHANNELS,
    OPERATION_KINDS,
    OPERATION_STATUSES,
    SEARCHED_FIELDS,
    OperationFilter,
    OperationPage,
    UnknownOperation,
    containing,
    describe_operation,
    page_operations,
    plain_instant,
    plain_operation,
    with_status,
)
from analytics_admin.services.breakers.arguments import DEFAULT_HOLD
from analytics_admin.services.breakers.followup import (
    BreakerWatch,
    Sequel,
    WatchedBreaker,
    watch_breakers,
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
    LARGEST_PAGE,
    describe_breaker,
    list_breakers,
    page_breakers,
)
from analytics_admin.services.breakers.timeline import (
    BreakerEvent,
    list_acts_on_breaker,
    tell_timeline,
)
from analytics_admin.services.breakers.types import (
    BreakerActivity,
    BreakerDetail,
    BreakerPage,
    BreakerPeriod,
    BreakerTransition,
    as_plain,
)
from analytics_admin.services.runner import (
    FAILURE,
    MAX_REASON_LENGTH,
    ActDenied,
    ActFailed,
    ActRefused,
    ActResult,
    deny,
    failure_said,
)
from analytics_admin.services.search_cache.clears import (
    clear_mode_of,
    clear_tags_of,
    list_clears_since,
    list_recent_clears,
)
from analytics_admin.services.search_cache.operations import (
    clear_search_cache,
    sweep_search_cache,
    undo_clear,
)
from analytics_admin.services.search_cache.queries import (
    LONGEST_HISTORY,
    SearchCacheCounts,
    SearchCacheMinute,
    SearchCacheStatus,
    SearchCacheSweep,
    describe_search_cache,
    plain_search_cache,
)
from analytics_admin.services.search_cache.ways import CLEAR_MODES
from analytics_admin.stores.client import StoreUnavailable

__all__ = [
    "BREAKER_SORTS",
    "BREAKER_STATES",
    "CLEAR_MODES",
    "CONTROLS",
    "DEFAULT_HOLD",
    "FAILURE",
    "LARGEST_PAGE",
    "LARGEST_PAGE_OF_OPERATIONS",
    "LONGEST_HISTORY",
    "LONGEST_SEARCH",
    "MAX_REASON_LENGTH",
    "MAX_TAGS_PER_CLEAR",
    "MAX_TAG_CHARS",
    "OPERATION_CHANNELS",
    "OPERATION_KINDS",
    "OPERATION_STATUSES",
    "SEARCHED_FIELDS",
    "Act",
    "ActDenied",
    "ActFailed",
    "ActRefused",
    "ActResult",
    "Actor",
    "AlreadyOnRecord",
    "AuditUnavailable",
    "BreakerActivity",
    "BreakerChanged",
    "BreakerDetail",
    "BreakerEvent",
    "BreakerInUse",
    "BreakerNotOpen",
    "BreakerPage",
    "BreakerPeriod",
    "BreakerStatus",
    "BreakerTransition",
    "BreakerWatch",
    "OperationFilter",
    "OperationPage",
    "PolicyOption",
    "SearchCacheCounts",
    "SearchCacheMinute",
    "SearchCacheStatus",
    "SearchCacheSweep",
    "Sequel",
    "StoreUnavailable",
    "UnknownBreakers",
    "UnknownOperation",
    "WatchedBreaker",
    "allow_probe",
    "as_plain",
    "clear_mode_of",
    "clear_search_cache",
    "clear_tags_of",
    "containing",
    "deny",
    "describe_breaker",
    "describe_operation",
    "describe_search_cache",
    "explain_policy",
    "failure_said",
    "forget_breaker",
    "list_acts_on_breaker",
    "list_breakers",
    "list_clears_since",
    "list_recent_clears",
    "may",
    "outside_transactions",
    "page_breakers",
    "page_operations",
    "plain_instant",
    "plain_operation",
    "plain_search_cache",
    "reset_circuit_breakers",
    "set_breaker_control",
    "set_breaker_controls",
    "sweep_search_cache",
    "tell_timeline",
    "undo_clear",
    "watch_breakers",
    "with_status",
]
