"""What Python does to a process, breakers bear: forks, signals, greenlets, the end."""

from pathlib import Path

import pytest
from django.conf import settings

from tests.support.separate_site import run_site

MEMORY = """
CACHES = {
    alias: {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"} for alias in CACHES
}
"""
SHARED = f"CACHES = {settings.CACHES!r}"
STORES = pytest.mark.parametrize("store", [MEMORY, SHARED], ids=["memory", "shared"])
START = """
import asyncio, gc, logging, os, signal, threading, time
import django

django.setup()
logging.getLogger("analytics_admin.breakers").setLevel(logging.CRITICAL)
from analytics_admin.breakers import CircuitOpenError, circuit_breaker, get_breaker
"""


def run(folder: Path, program: str, store: str) -> str:
    return run_site(folder, {"program.py": START + program}, "program", settings=store)


FORKS = """
stop = threading.Event()

def declare(thread):
    number = 0
    while not stop.is_set():
        number += 1
        circuit_breaker(f"t{thread}.{number % 1000}", failure_threshold=3)
        get_breaker(f"t{thread}.{number % 1000}").policy

shared = circuit_breaker("shared")
threads = [threading.Thread(target=declare, args=(each,)) for each in range(4)]
for thread in threads:
    thread.start()
children = []
for number in range(200):
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends a child that hangs
        circuit_breaker(f"child{number}", failure_threshold=number + 1)
        right = get_breaker(f"child{number}").policy.failure_threshold == number + 1
        right = right and get_breaker("shared").call(lambda: "called") == "called"
        os._exit(0 if right else 1)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
stop.set()
for thread in threads:
    thread.join()
print("ends", sorted(set(ends)))
"""


@STORES
def test_a_fork_beside_threads_that_declare_breakers_leaves_no_child_hanging(tmp_path, store):
    assert run(tmp_path, FORKS, store).strip() == "ends [0]"


BLOCKS = """
from analytics_admin.breakers import breaker as module

module.MAX_STRAY_BLOCKS = 0
breaker = circuit_breaker("blocks", failure_threshold=1, wait_duration_in_open_state=0.01)
breaker.call(int)
entered, go_on = threading.Barrier(9), threading.Event()

def wait(depth):
    if depth:
        return wait(depth - 1)
    with breaker:
        entered.wait(20)
        go_on.wait(20)

threads = [threading.Thread(target=wait, args=(each,)) for each in range(8)]
for thread in threads:
    thread.start()
entered.wait(20)

def in_child():
    signal.alarm(20)
    assert len(breaker._blocks) == 1
    breaker.engine.expire("blocks")
    for _ in range(100):
        with breaker:
            gc.collect()
    go_on.set()

def forked_inside():
    with breaker:
        child = os.fork()
        if not child:
            in_child()
    if not child:
        os._exit(len(breaker._blocks))
    return os.waitpid(child, 0)[1]

print("end", forked_inside(), len(breaker._blocks))
go_on.set()
for thread in threads:
    thread.join()
print("open", len(breaker._blocks))
"""


@STORES
def test_a_forked_child_has_the_open_blocks_of_its_own_thread_alone(tmp_path, store):
    assert run(tmp_path, BLOCKS, store).split("\n")[:2] == ["end 0 8", "open 0"]


PROBES = """
from analytics_admin.breakers import runtime

breaker = circuit_breaker("probes", failure_threshold=1, wait_duration_in_open_state=0.01)
breaker.acquire().fail()
while True:
    time.sleep(0.05)
    try:
        probe = breaker.acquire()
        break
    except CircuitOpenError:
        pass

def stored():
    return runtime.operator_store().load_many(["probes"]).snapshots["probes"]

child = os.fork()
if not child:
    signal.alarm(20)
    probe.succeed()
    del probe
    gc.collect()
    time.sleep(0.3)
    os._exit(0)
end = os.waitpid(child, 0)[1]
print(end, stored().permits, stored().state.value)
probe.succeed()
print(breaker.state)
"""


def test_a_forked_child_does_not_end_the_probe_of_its_parent(tmp_path):
    assert run(tmp_path, PROBES, SHARED).split("\n")[:2] == ["0 1 half_open", "closed"]


SIGNALS = """
declared = [0]

def declare(*_):
    declared[0] += 1
    circuit_breaker(f"handler{declared[0] % 500}", failure_threshold=3)
    get_breaker("main").policy
    signal.setitimer(signal.ITIMER_REAL, 0.0001)

circuit_breaker("main")
signal.signal(signal.SIGALRM, declare)
signal.setitimer(signal.ITIMER_REAL, 0.0001)
for number in range(20_000):
    circuit_breaker(f"main{number % 500}", failure_threshold=3)
signal.setitimer(signal.ITIMER_REAL, 0)
print("handled" if declared[0] > 100 else declared[0])
"""


def test_the_handler_of_a_signal_may_declare_a_breaker_while_another_is_declared(tmp_path):
    assert run(tmp_path, SIGNALS, MEMORY).strip() == "handled"


END = """
breaker = circuit_breaker("last", failure_threshold=1, wait_duration_in_open_state=0.01)
other = circuit_breaker("other")

class Connection:
    def __del__(self, other=other, write=os.write, error=ZeroDivisionError):
        with other:
            pass
        other.call(int)
        try:
            other(lambda: 1 / 0)()
        except error:
            write(1, b"failed as it does\\n")

def rows():
    with other:
        yield 1

async def stream():
    async with other:
        yield 1

other.call(int)
connection = Connection()
cycle = [Connection()]
cycle.append(cycle)
reading = rows()
next(reading)
breaker.acquire().fail()
time.sleep(0.1)
while True:
    try:
        probe = breaker.acquire()
        break
    except CircuitOpenError:
        time.sleep(0.01)

async def hang():
    async with other:
        await asyncio.sleep(0)

hanging = hang()
hanging.send(None)
streams = stream()
try:
    streams.asend(None).send(None)
except StopIteration:
    pass
"""


@STORES
def test_what_is_left_over_at_the_end_of_the_interpreter_ends_quietly(tmp_path, store):
    assert run(tmp_path, END, store).strip() == "failed as it does\nfailed as it does"


GREENLETS = """
import gevent

breaker = circuit_breaker(
    "greenlets", failure_threshold=None, failure_rate_threshold=50, record_cancelled="failure"
)
breaker.call(int)
ended = []

def call(seconds):
    with breaker as permit:
        gevent.sleep(seconds)
    ended.append(seconds)

def within(seconds, limit):
    try:
        with gevent.Timeout(limit):
            call(seconds)
    except gevent.Timeout:
        ended.append("timed out")

def counts():
    breaker.engine.expire("greenlets")
    breaker.state
    return breaker.local_state.snapshot.counts

before = counts()
gevent.joinall([gevent.spawn(call, seconds) for seconds in (0.3, 0.1, 0.2)])
gevent.joinall([gevent.spawn(within, 60, 0.1), gevent.spawn(within, 0.2, 60)])
killed = gevent.spawn(call, 60)
gevent.sleep(0.05)
killed.kill()
time.sleep(0.3)
after = counts()
print(ended, after.calls - before.calls, after.failures, len(breaker._blocks))
"""


@STORES
def test_blocks_in_greenlets_end_each_their_own(tmp_path, store):
    start = "from gevent import monkey\n\nmonkey.patch_all()\n" + START
    program = {"program.py": start + GREENLETS}
    printed = run_site(tmp_path, program, "program", settings=store)
    assert printed.strip() == "[0.1, 0.2, 0.3, 'timed out', 0.2] 6 2 0"


SATURATED = """
import gevent
from gevent.monkey import get_original
from analytics_admin.breakers import runtime
from analytics_admin.breakers.stores.redis import RedisStore
from analytics_admin.signals import breaker_state_changed

hub, ticks, told = gevent.get_hub(), [], []

def note(to_state, **_):
    told.append((to_state, gevent.get_hub() is hub))

def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)

def compute(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

breaker_state_changed.connect(note)
breaker = circuit_breaker("saturated", failure_threshold=3)
add = RedisStore.add
RedisStore.add = lambda *arguments: (get_original("time", "sleep")(0.1), add(*arguments))[1]
ticker = gevent.spawn(tick)
gevent.sleep(0)
before = len(ticks)
breaker.call(int)
print("others ran during the first look:", len(ticks) - before > 2)
RedisStore.add = add
for _ in range(3):
    breaker.acquire().fail()
failed_at = time.time()
compute(1)
told_early = list(told)
gevent.sleep(0.05)
(opened,) = runtime.operator_store().transitions("saturated")
print("told the store meanwhile:", opened.at - failed_at < 0.7)
print("signals:", told_early, told)
"""


def test_a_saturated_hub_keeps_no_report_back_and_receivers_run_in_it(tmp_path):
    start = "from gevent import monkey\n\nmonkey.patch_all()\n" + START
    program = {"program.py": start + SATURATED}
    printed = run_site(tmp_path, program, "program", settings=SHARED)
    assert printed.splitlines() == [
        "others ran during the first look: True",
        "told the store meanwhile: True",
        "signals: [] [('open', True)]",
    ]


CELERY = """
from billiard.pool import Pool
from celery.concurrency.prefork import process_destructor
from analytics_admin import services
from analytics_admin.breakers import runtime

def fail():
    breaker = circuit_breaker("celery", failure_threshold=9)
    assert breaker.state == "closed"
    for _ in range(3):
        breaker.acquire().fail()
    while not any(process.pid == os.getpid() for process in services.list_processes()):
        time.sleep(0.01)
    return os.getpid()

pool = Pool(1, on_process_exit=process_destructor)
worker = pool.apply(fail)
assert [process.pid for process in services.list_processes()] == [worker]
pool.close()
pool.join()
counts = runtime.operator_store().load_many(["celery"]).snapshots["celery"].counts
print(len(services.list_processes()), counts.failures)
"""


CELERY_RECYCLING = """
from billiard.pool import Pool
from celery.concurrency.prefork import process_destructor
from analytics_admin.breakers import runtime

breaker = circuit_breaker("recycled", failure_threshold=5)

def mail(number):
    if number % 10 == 9:
        breaker.acquire().fail()
    else:
        breaker.call(int)

pool = Pool(2, maxtasksperchild=1, on_process_exit=process_destructor)
for number in range(60):
    pool.apply(mail, (number,))
pool.close()
pool.join()
told = runtime.operator_store().load_many(["recycled"]).snapshots["recycled"]
print(told.state, told.counts.calls, told.counts.failures)
"""


def test_workers_of_one_task_each_tell_their_successes(tmp_path):
    """Else their failures add up, and open a breaker that succeeds nine times of ten."""
    assert run(tmp_path, CELERY_RECYCLING, SHARED).split("\n")[0] == "closed 60 6"


def test_a_worker_of_celery_leaves_and_tells_what_it_counted_when_it_ends(tmp_path):
    assert run(tmp_path, CELERY, SHARED).split("\n")[0] == "0 3"
