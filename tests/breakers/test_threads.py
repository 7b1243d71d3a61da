"""No thread of the engine ends for good, whatever the site's code raises in it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from analytics_admin.breakers import listener as listener_module
from analytics_admin.breakers import reporter as reporter_module
from analytics_admin.breakers import runtime, signal_sender
from analytics_admin.breakers import turn as turn_module
from analytics_admin.breakers.reporter import Reporter
from analytics_admin.breakers.signal_sender import SignalSender
from analytics_admin.signals import breaker_state_changed, breaker_store_changed
from analytics_admin.stores import threads
from analytics_admin.stores.threads import KeptThread
from tests.support.breakers import another, state_now
from tests.support.sites import eventually

LOGGER = logging.getLogger("analytics_admin.breakers")
WHATEVER = [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError]


@contextmanager
def heard() -> Iterator[list[Any]]:
    """What receivers hear in the block: states of breakers, and reasons of losses."""
    events: list[Any] = []

    def hear(**told: Any) -> None:
        events.append(told.get("to_state", told.get("reason")))

    for signal in (breaker_state_changed, breaker_store_changed):
        signal.connect(hear)
    try:
        yield events
    finally:
        for signal in (breaker_state_changed, breaker_store_changed):
            signal.disconnect(hear)


@pytest.fixture(params=[RuntimeError, SystemExit])
def log_that_raises(request: pytest.FixtureRequest) -> Iterator[None]:
    def refuse(record: logging.LogRecord) -> bool:
        raise request.param

    LOGGER.addFilter(refuse)
    yield
    LOGGER.removeFilter(refuse)


def signalling(name: str, **policy: Any) -> Any:
    breaker = another(name, **policy)
    breaker.engine._announce = SignalSender(runtime.announce)
    breaker.engine._sync._changed = breaker.engine._announce
    breaker.call(int)
    return breaker


@pytest.mark.usefixtures("log_that_raises")
def test_a_log_that_raises_keeps_no_loss_no_return_and_no_trip_from_anybody(
    server, proxy, settings
):
    settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": 0.1}
    breaker = signalling("a", failure_threshold=1)
    with heard() as events:
        server.stop()
        breaker.acquire().release()
        assert eventually(lambda: breaker.call(int) or events)
        server.start()
        assert eventually(lambda: breaker.call(int) or events[-1] is None)
        breaker.call(int)
        breaker.acquire().fail()
        assert eventually(lambda: events[-1] == "open")
    assert state_now(another("a")) == "open"


@pytest.mark.parametrize("error", WHATEVER)
def test_a_receiver_that_raises_keeps_no_later_event_from_receivers(error):
    delivered: list[int] = []

    def deliver(event: int) -> None:
        delivered.append(event)
        if event == 1:
            raise error

    sender = SignalSender(deliver)
    for event in (1, 2):
        sender(event)
        assert sender.drain(10)
    assert delivered == [1, 2]


def test_a_receiver_that_raises_in_a_call_without_threads_does_it_no_harm(monkeypatch):
    monkeypatch.setattr(signal_sender, "start_thread", refuse)
    delivered: list[int] = []

    def deliver(event: int) -> None:
        delivered.append(event)
        raise SystemExit

    sender = SignalSender(deliver)
    sender(1)
    sender(2)
    assert delivered == [1, 2]


@pytest.mark.parametrize("error", WHATEVER)
def test_an_error_of_the_engine_ends_no_reporter(monkeypatch, error):
    monkeypatch.setattr(reporter_module, "ERROR_SECONDS", 0.01)
    breaker = another("a", failure_threshold=1)
    real, raised = Reporter._do_turn, []

    def fail_once(reporter: Reporter) -> float:
        if not raised:
            raised.append(threading.current_thread())
            raise error
        turns_in.append(threading.current_thread())
        return real(reporter)

    reporter, turns_in = breaker.engine.reporter, []
    monkeypatch.setattr(reporter, "_do_turn", lambda: fail_once(reporter))
    breaker.acquire().fail()
    assert breaker.engine.report_all(10)
    assert eventually(lambda: state_now(another("a")) == "open")
    assert set(turns_in) == set(raised)


def test_an_error_of_the_engine_ends_no_listener(monkeypatch):
    monkeypatch.setattr(listener_module, "FIRST_RETRY_SECONDS", 0.01)
    opened = []

    def new_channel() -> Any:
        opened.append(threading.current_thread())
        raise opened and SystemExit

    listener = listener_module.Listener(
        lambda: None, timeout=lambda: 1.0, retry_interval=lambda: float("x")
    )
    monkeypatch.setattr(listener, "_has_no_channel", False)
    listener._thread = KeptThread(listener._work, new_channel, listener._stop, name="a")
    assert listener._thread.begin()
    assert eventually(lambda: len(opened) >= 3)
    assert len(set(opened)) == 1
    listener.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, None])
def test_a_reporter_that_has_ended_is_begun_again(monkeypatch, error):
    real, ended = Reporter._work, []

    def end(reporter: Reporter, bell: Any) -> None:
        if ended:
            real(reporter, bell)
        ended.append(error)
        if error is not None:
            raise error

    monkeypatch.setattr(Reporter, "_work", end)
    breaker = another("a", failure_threshold=1)
    breaker.engine.reporter.ring()
    assert eventually(lambda: breaker.engine.reporter._thread.is_missing)
    breaker.acquire().fail()
    assert breaker.engine.report_all(10)
    assert eventually(lambda: state_now(another("a")) == "open")


def refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("can't start new thread")


def refusing(times: int) -> Callable[..., None]:
    """Return ``start_thread`` as it is when threads run out for a moment."""
    refused: list[None] = []

    def start(*arguments: Any, **options: Any) -> None:
        if len(refused) < times:
            refused.append(None)
            refuse()
        threads.start_thread(*arguments, **options)

    return start


@pytest.mark.hurried
def test_a_process_that_had_no_thread_for_a_moment_has_one_again(monkeypatch, settings):
    settings.ANALYTICS_ADMIN = {"SYNC_INTERVAL": 0.02}
    monkeypatch.setattr(threads, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(reporter_module, "start_thread", refusing(2))
    breaker = another("a")
    reporter = breaker.engine.reporter
    breaker.call(int)
    assert reporter.is_threadless
    assert eventually(lambda: breaker.call(int) or not reporter.is_threadless)
    assert not reporter.uses_callers
    monkeypatch.setattr(reporter, "_take_turn", refuse)
    breaker.acquire().fail()
    assert breaker.engine.report_all(10)


@pytest.mark.hearing
def test_a_process_whose_listener_had_no_thread_for_a_moment_hears_in_the_end(monkeypatch):
    monkeypatch.setattr(turn_module, "LISTEN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(turn_module, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(threads, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(listener_module, "start_thread", refusing(2))
    breaker = another("a")
    breaker.call(int)
    assert eventually(lambda: breaker.engine.schedule.gets_pushes)


def test_a_thread_that_was_not_to_be_had_is_not_tried_at_every_call(monkeypatch):
    tried: list[None] = []
    now = 1000.0
    monkeypatch.setattr(threads.time, "monotonic", lambda: now)
    thread = KeptThread(lambda: None, name="a")

    def start(*arguments: Any, **options: Any) -> None:
        tried.append(None)
        refuse()

    for later in (0.0, 1.0, 1.9, 2.1):
        now = 1000.0 + later
        assert not thread.begin(start)
    assert len(tried) == 2
    assert thread.is_missing


def test_nobody_waits_for_a_start_that_is_under_way():
    starting, go_on = threading.Event(), threading.Event()

    def start(*arguments: Any, **options: Any) -> None:
        starting.set()
        assert go_on.wait(20)

    thread = KeptThread(lambda: None, name="a")
    first = threading.Thread(target=thread.begin, args=(start,))
    first.start()
    assert starting.wait(20)
    assert thread.begin(start)
    go_on.set()
    first.join()


def test_a_thread_whose_start_was_interrupted_works_once(monkeypatch):
    """A signal's handler may raise before or after it has begun."""
    begun: list[threading.Thread] = []
    ends = threading.Event()

    def work() -> None:
        begun.append(threading.current_thread())
        ends.wait(10)

    def start_late(*arguments: Any, **options: Any) -> None:
        late.append(lambda: threads.start_thread(*arguments, **options))
        raise KeyboardInterrupt

    def start_early(*arguments: Any, **options: Any) -> None:
        threads.start_thread(*arguments, **options)
        raise KeyboardInterrupt

    late: list[Callable[[], None]] = []
    thread = KeptThread(work, name="a")
    with pytest.raises(KeyboardInterrupt):
        thread.begin(start_late)
    assert thread.begin()  # it may be about to work
    monkeypatch.setattr(thread, "_unborn_until", time.monotonic())
    assert thread.begin()
    late[0]()
    assert eventually(lambda: begun)
    ends.set()
    assert eventually(lambda: thread.is_missing)
    assert len(begun) == 1

    begun.clear()
    ends.clear()
    thread = KeptThread(work, name="a")
    with pytest.raises(KeyboardInterrupt):
        thread.begin(start_early)
    assert thread.begin()
    ends.set()
    assert eventually(lambda: thread.is_missing)
    assert len(begun) == 1


@pytest.mark.parametrize("value", ["soon", None, float("nan"), -1])
def test_a_time_that_the_settings_spoil_is_the_default(settings, value):
    settings.ANALYTICS_ADMIN = {"STORE_RETRY_INTERVAL": value}
    assert another("a").engine.outage._retry_interval() == 5.0


def test_a_policy_that_the_settings_spoil_keeps_no_process_from_the_list(settings):
    settings.ANALYTICS_ADMIN = {"BREAKERS": {"spoilt": {"failure_treshold": 1}}}
    assert len(runtime._hash_policies()) == 8
