"""What stands in front of a protected function.

A call that a closed breaker lets pass costs two looks at the clock and one count; everything else
takes the longer way through a permit.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from analytics_admin.breakers.permit import clock

if TYPE_CHECKING:
    from analytics_admin.breakers.breaker import CircuitBreaker

P = ParamSpec("P")
R = TypeVar("R")


def protect(
    breaker: "CircuitBreaker", function: Callable[P, R], fallback_call: Callable[..., Any] | None
) -> Callable[P, R]:
    def protected(*args: P.args, **kwargs: P.kwargs) -> R:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return cast("R", breaker.run(function, fallback_call, args, kwargs))
        counter = view.counter
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            breaker.permit_since(counter.generation, began).fail(error)
            raise
        ended = clock()
        if counter is view.counter and ended - began <= view.slow_after:
            next(counter)
            view.newest_success = ended
        else:
            breaker.permit_since(counter.generation, began).succeed()
        return result

    return protected


def protect_coroutine(
    breaker: "CircuitBreaker", function: Callable[P, Any], fallback_call: Callable[..., Any] | None
) -> Callable[P, Any]:
    async def protected(*args: P.args, **kwargs: P.kwargs) -> Any:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return await breaker.arun(function, fallback_call, args, kwargs)
        counter = view.counter
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await breaker.permit_since(counter.generation, began).afail(error)
            raise
        ended = clock()
        if counter is view.counter and ended - began <= view.slow_after:
            next(counter)
            view.newest_success = ended
        else:
            await breaker.permit_since(counter.generation, began).asucceed()
        return result

    return protected
