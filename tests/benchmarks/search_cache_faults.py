"""What a process of the site notices of each fault of the search cache's store.

Milliseconds. ``calls``: one after the other, those that waited; then the longest wait of 50 calls
at once: for values each, for one that nobody has, by a process that starts then, and of tasks, with
the longest hold-up of their event loop. ``wrong``: answers that were not the backend's or the
cache's, and exceptions that were not the backend's.
"""

from tests.benchmarks.breaker_faults import NOTICEABLE
from tests.support.breaker_faults import FAULTS, Fault
from tests.support.search_cache_faults import Account, suffer


def line(fault: Fault, seen: Account) -> str:
    waits = (seen.by_threads, seen.in_herd, seen.by_new_process, seen.by_tasks)
    calls = " ".join(f"{1000 * call:.0f}" for call in seen.calls if call > NOTICEABLE)
    longest = "".join(f"{1000 * max(wait):7.0f}" for wait in waits)
    back = "back" if seen.came_back else "LOST"
    return (
        f"{fault.name:24}{calls or '-':>16}{longest}{1000 * seen.loop_lag:5.0f}"
        f"{len(seen.wrong):6}  {back}  {seen.act}"
    )


def main() -> None:
    print(
        f"{'fault':24}{'calls':>16}{'50':>7}{'herd':>7}{'new':>7}{'tasks':>7}{'lag':>5}"
        f"{'wrong':>6}  after what an operator's clear says"
    )
    for fault in FAULTS:
        print(line(fault, suffer(fault)), flush=True)


if __name__ == "__main__":
    main()
