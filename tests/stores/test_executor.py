"""The executor's threads run jobs, and never block a caller."""

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
    return {thread for thread in threading.enumerate() if thread.name == "search cache store"}


def test_results_and_exceptions_arrive():
    executor = StoreExecutor()
    assert executor.submit(lambda: 5).result(5) == 5
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 / 0).result(5)
    executor.shut_down()


def test_jobs_one_after_the_other_need_one_thread():
    before, executor = threads_now(), StoreExecutor()
    for _ in range(50):
        assert executor.submit(int).result(5) == 0
    assert len(threads_now() - before) == 1
    executor.shut_down()


def test_a_shutdown_releases_all_waiters_and_starts_nothing_more(held):
    executor, begun = StoreExecutor(), []
    hanging = [executor.submit(held.wait) for _ in range(MAX_THREADS)]
    queued = executor.submit(lambda: begun.append(1))
    executor.shut_down()
    for future in (*hanging, queued, executor.submit(lambda: begun.append(2))):
        with pytest.raises(ExecutorShutDown):
            future.result(0)
    held.set()
    assert begun == []


def test_its_threads_end_after_a_shutdown(held):
    before, executor = threads_now(), StoreExecutor()
    for _ in range(MAX_THREADS):
        executor.submit(held.wait)
    mine = threads_now() - before
    assert len(mine) == MAX_THREADS
    executor.shut_down()
    held.set()
    for thread in mine:
        thread.join(5)
    assert not mine & threads_now()


def test_where_no_thread_can_be_had_the_caller_does_the_job(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert StoreExecutor().submit(threading.get_ident).result(0) == threading.get_ident()
