"""A process of the site that calls breakers and searches all the time, and writes it all down."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import django

if __name__ == "__main__":
    django.setup()

from analytics_admin.breakers import CircuitBreaker, CircuitOpenError, circuit_breaker
from analytics_admin.breakers.permit import is_probe
from analytics_admin.breakers.runtime import engine
from analytics_admin.caching import search_cache
from tests.support.chaos.events import Away, Call, Disturbance, Fault, Search
from tests.support.chaos.plan import KEYS, NAMES, SHARED, TAGS
from tests.support.chaos.program import POLICY, Health, Orders, orders, ready
from tests.support.history.events import FAILURE, REJECTED, SUCCESS

CALLERS = 2
SEARCHERS = 2
PAUSE = 0.05
"""Mean seconds between what one thread does."""
BEAT = 0.005
LATE = 0.025
"""A heart that beats so late was held up."""
NEAR = 0.1
REFUSED = 0.03
"""Part of the searches whose backend fails."""


class BackendDown(Exception):
    """What is searched does not answer."""


class _Worker:
    def __init__(self, given: Orders) -> None:
        plan = given.plan()
        self.process, self.history = given.process, given.history()
        self.health = Health(plan)
        self.luck = random.Random(f"{plan.seed} {given.process}")

    def run(self) -> None:
        breakers = [circuit_breaker(name, **POLICY) for name in (*NAMES, SHARED)]
        callers = [_Caller(self, number, breakers) for number in range(CALLERS)]
        steps: list[Callable[[], Any]] = [caller.call for caller in callers]
        steps += [_Searcher(self).search for _ in range(SEARCHERS)]
        threads = [threading.Thread(target=self._repeat, args=(step,)) for step in steps]
        threads.append(threading.Thread(target=lambda: asyncio.run(self._repeat_in_a_loop())))
        threads.append(threading.Thread(target=self._watch))
        for thread in threads:
            thread.start()
        ready()
        self.health.listen()
        for thread in threads:
            thread.join()
        engine.report_all(10)

    def _repeat(self, step: Callable[[], Any]) -> None:
        while not self.health.over.wait(self.luck.expovariate(1 / PAUSE)):
            try:
                step()
            # What becomes of a store may reach no caller.
            except Exception as error:
                self.note_fault(error)

    async def _repeat_in_a_loop(self) -> None:
        searcher = _Searcher(self)
        while not self.health.over.is_set():
            await asyncio.sleep(self.luck.expovariate(1 / PAUSE))
            try:
                await searcher.asearch()
            except Exception as error:
                self.note_fault(error)

    def note_fault(self, error: Exception) -> None:
        self.history.write(Fault(process=self.process, at=time.monotonic(), what=repr(error)))

    def _watch(self) -> None:
        """Write down when the process is held up, and while it is without the breakers' store."""
        last, away_since = time.monotonic(), None
        while not self.health.over.wait(BEAT):
            now = time.monotonic()
            if now - last > LATE:
                held_up = Disturbance(process=self.process, began=last, ended=now, what="held up")
                self.history.write(held_up)
            if has_store():
                if away_since is not None:
                    self.history.write(Away(process=self.process, began=away_since, ended=now))
                away_since = None
            elif away_since is None:
                away_since = last
            last = now
        if away_since is not None:
            self.history.write(Away(process=self.process, began=away_since, ended=last))


def has_store() -> bool:
    return engine.outage.stand_in is None


class _Caller:
    """One thread that calls breakers at random."""

    def __init__(self, worker: _Worker, number: int, breakers: list[CircuitBreaker]) -> None:
        self._worker, self._number, self._breakers = worker, number, breakers

    def call(self) -> None:
        worker = self._worker
        breaker = worker.luck.choice(self._breakers)
        had_store, began = has_store(), time.monotonic()
        try:
            permit = breaker.acquire()
        except CircuitOpenError:
            self._note(breaker, began, REJECTED, had_store=had_store)
            return
        admitted = permit._admitted
        assert admitted is not None
        time.sleep(worker.luck.uniform(0.0, 0.004))
        outcome = FAILURE if worker.luck.random() < worker.health.failing(breaker.name) else SUCCESS
        self._note(
            breaker,
            began,
            outcome,
            had_store=had_store,
            generation=admitted.generation,
            is_probe=is_probe(admitted),
        )
        if outcome == FAILURE:
            permit.fail(ConnectionError())
        else:
            permit.succeed()

    def _note(
        self, breaker: CircuitBreaker, began: float, outcome: str, *, had_store: bool, **more: Any
    ) -> None:
        self._worker.history.write(
            Call(
                process=self._worker.process,
                thread=self._number,
                name=breaker.name,
                began=began,
                ended=time.monotonic(),
                outcome=outcome,
                had_store=had_store and has_store(),
                **more,
            )
        )


class _Searcher:
    """Searches in several ways. A value is the instant of which it is."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def search(self) -> None:
        key, terms, began = self._choose()
        try:
            if self._worker.luck.random() < 0.3:
                text = search_cache.lookup_text(key, self._compute, **terms)
                state, as_of = text.state, float(text.text)
            else:
                answer = search_cache.lookup(key, self._compute, **terms)
                state, as_of = answer.state, answer.value
        except BackendDown:
            return
        self._note(key, terms, began, state, as_of)

    async def asearch(self) -> None:
        key, terms, began = self._choose()
        try:
            answer = await search_cache.alookup(key, self._compute, **terms)
        except BackendDown:
            return
        self._note(key, terms, began, answer.state, answer.value)

    def _choose(self) -> tuple[str, dict[str, Any], float]:
        luck, number = self._worker.luck, self._worker.luck.randrange(KEYS)
        terms = {
            "tags": (TAGS[number % len(TAGS)],),
            "timeout": luck.choice((0.05, 30)),
            "stale_for": 30,
            "near": luck.choice((0, 0, NEAR)),
        }
        return f"key.{number}", terms, time.monotonic()

    def _compute(self) -> float:
        as_of = time.monotonic()
        time.sleep(self._worker.luck.uniform(0.0, 0.01))
        if self._worker.luck.random() < REFUSED:
            raise BackendDown
        return as_of

    def _note(
        self, key: str, terms: dict[str, Any], began: float, state: str, as_of: float
    ) -> None:
        self._worker.history.write(
            Search(
                process=self._worker.process,
                key=key,
                tags=terms["tags"],
                began=began,
                ended=time.monotonic(),
                state=str(state),
                as_of=as_of,
                near=terms["near"],
            )
        )


if __name__ == "__main__":
    _Worker(orders()).run()
