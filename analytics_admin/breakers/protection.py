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
    breaker: "CircuitBreaker", function: Callable[P, R], instead: Callable[..., Any] | None
) -> Callable[P, R]:
    def protected(*args: P.args, **kwargs: P.kwargs) -> R:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return cast("R", breaker.run(function, instead, args, kwargs))
        tick = view.tick
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            breaker.late_permit(tick.generation, began).fail(error)
            raise
        ended = clock()
        if tick is view.tick and ended - began <= view.slow_after:
            next(tick)
            view.newest_success = ended
        else:
            breaker.late_permit(tick.generation, began).succeed()
        return result

    return protected


def protect_coroutine(
    breaker: "CircuitBreaker", function: Callable[P, Any], instead: Callable[..., Any] | None
) -> Callable[P, Any]:
    async def protected(*args: P.args, **kwargs: P.kwargs) -> Any:
        view = breaker.view
        began = clock()
        if began >= view.passes_until:
            return await breaker.arun(function, instead, args, kwargs)
        tick = view.tick
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            await breaker.late_permit(tick.generation, began).afail(error)
            raise
        ended = clock()
        if tick is view.tick and ended - began <= view.slow_after:
            next(tick)
            view.newest_success = ended
        else:
            await breaker.late_permit(tick.generation, began).asucceed()
        return result

    return protected
