"""The courier's threads carry jobs, and never keep a caller."""

import threading
from collections.abc import Iterator

import pytest

from analytics_admin.stores.executor import MAX_THREADS, ExecutorShutDown, StoreExecutor


@pytest.fixture
def held() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def threads_now() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "circuit breaker store"}


def test_results_and_exceptions_arrive():
    courier = StoreExecutor()
    assert courier.submit(lambda: 5).result(5) == 5
    with pytest.raises(ZeroDivisionError):
        courier.submit(lambda: 1 / 0).result(5)
    courier.shut_down()


def test_jobs_one_after_the_other_need_one_thread():
    before, courier = threads_now(), StoreExecutor()
    for _ in range(50):
        assert courier.submit(int).result(5) == 0
    assert len(threads_now() - before) == 1
    courier.shut_down()


def test_dismissal_lets_all_waiters_go_and_begins_nothing_more(held):
    courier, begun = StoreExecutor(), []
    hanging = [courier.submit(held.wait) for _ in range(MAX_THREADS)]
    queued = courier.submit(lambda: begun.append(1))
    courier.shut_down()
    for future in (*hanging, queued, courier.submit(lambda: begun.append(2))):
        with pytest.raises(ExecutorShutDown):
            future.result(0)
    held.set()
    assert begun == []


def test_its_threads_end_after_dismissal(held):
    before, courier = threads_now(), StoreExecutor()
    for _ in range(MAX_THREADS):
        courier.submit(held.wait)
    mine = threads_now() - before
    assert len(mine) == MAX_THREADS
    courier.shut_down()
    held.set()
    for thread in mine:
        thread.join(5)
    assert not mine & threads_now()


def test_where_no_thread_can_be_had_the_caller_does_the_job(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert StoreExecutor().submit(threading.get_ident).result(0) == threading.get_ident()
