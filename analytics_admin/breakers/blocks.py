"""Which open ``with`` block an end belongs to that comes from another frame than its beginning.

So it is with an ExitStack, and with classes that enter a breaker in one method and leave it in
another. All that such an end has to tell is its frame and those of its callers.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dis import opmap
from types import CodeType, FrameType

from analytics_admin.breakers.permit import Permit

RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
MAX_CALLERS = 3
"""So many callers of a block's beginning, and of its end, may tell by their objects."""

_WITH = {
    opmap[name]
    for name in ("BEFORE_WITH", "BEFORE_ASYNC_WITH", "LOAD_SPECIAL")
    if name in opmap  # each release of Python has its own
}
_RETURN = {opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in opmap}
_NO_OWNER = object()

Block = tuple[FrameType, Permit]
"""The frame in which a block was entered, and its permit."""


def find_block(blocks: Sequence[Block], frame: FrameType, breaker: object) -> FrameType | None:
    """Return the frame of the open block that this frame ends, if it is any.

    It is the one that has most in common with the end. Of those that are alike it is the newest,
    but a ``with`` block whose frame goes on will end itself. ``blocks`` come newest first.
    """
    is_found = False
    if not blocks:
        return None
    for is_like in _likenesses(frame, breaker):
        if matching := [block for block in blocks if is_like(*block)]:
            blocks, is_found = matching, True
            if len(blocks) == 1:
                break
    ended = (entered for entered, _ in blocks if _has_ended(entered))
    return next(ended, blocks[0][0] if is_found else None)


def awaiting(frame: FrameType) -> tuple[FrameType, ...]:
    """Return the frames of the coroutines that await this one, up to its task's."""
    callers: list[FrameType] = []
    caller = frame.f_back
    while caller is not None and caller.f_code.co_flags & RESUMABLE:
        callers.append(caller)
        caller = caller.f_back
    return tuple(callers)


def has_with_block(code: CodeType) -> bool:
    """Return whether there is any ``with`` in the code."""
    return not _WITH.isdisjoint(code.co_code[::2])


def _likenesses(frame: FrameType, breaker: object) -> Iterator[Callable[[FrameType, Permit], bool]]:
    """Yield what a block may have in common with its end, the most telling first."""
    owner = _owner(frame)
    if owner is not _NO_OWNER and owner is not breaker:
        yield lambda entered, permit: _owner_of_block(entered, permit) is owner
    callers = list(_going_up(frame))
    if callers:
        yield lambda entered, permit: callers[0] in _callers(entered, permit)[:1]
    for depth in range(1, MAX_CALLERS + 1):
        owners = _owners([frame, *callers[:depth]], breaker)

        def has_common_owner(
            entered: FrameType, permit: Permit, owners: set[int] = owners, depth: int = depth
        ) -> bool:
            frames = [entered, *_callers(entered, permit)[:depth]]
            return not owners.isdisjoint(_owners(frames, breaker))

        yield has_common_owner
    thread = callers[-1] if callers else frame
    yield lambda entered, permit: _outermost(entered, permit) is thread


def _owner_of_block(entered: FrameType, permit: Permit) -> object:
    try:
        return permit._owner
    except AttributeError:
        permit._owner = _owner(entered)
        return permit._owner


def _owner(frame: FrameType) -> object:
    """Return the object whose method the frame runs: its first argument."""
    code = frame.f_code
    if not code.co_argcount:
        return _NO_OWNER
    return frame.f_locals.get(code.co_varnames[0], _NO_OWNER)


def _owners(frames: Sequence[FrameType], breaker: object) -> set[int]:
    owners = map(_owner, frames)
    return {id(owner) for owner in owners if owner is not _NO_OWNER and owner is not breaker}


def _callers(entered: FrameType, permit: Permit) -> Sequence[FrameType]:
    """Return who called the block's beginning, nearest first."""
    callers: tuple[FrameType, ...] = getattr(permit, "_callers", ())
    return callers or list(_going_up(entered))


def _going_up(frame: FrameType) -> Iterator[FrameType]:
    while (caller := frame.f_back) is not None:
        yield caller
        frame = caller


def _outermost(entered: FrameType, permit: Permit) -> FrameType:
    """Return the frame that began the block's thread, or its task while that waits."""
    frame = (getattr(permit, "_callers", ()) or (entered,))[-1]
    return [frame, *_going_up(frame)][-1]


def _has_ended(frame: FrameType) -> bool:
    """Return whether the function has returned; the frame of one that waits goes on."""
    at = frame.f_lasti
    return at >= 0 and frame.f_code.co_code[at] in _RETURN
