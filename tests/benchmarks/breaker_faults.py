"""What a process of the site notices of each fault of the breakers' store.

Milliseconds. ``calls``: one after the other, those that waited; then the longest wait of 50 calls
at once, by a process that knew the store, one that starts then, one whose calls all fail, and one
of tasks, with the longest hold-up of its event loop; then how long after the store's return the
process is back. States: of a breaker whose backend dies meanwhile / of one that was open before;
during the outage, and after it.
"""

from tests.support.breaker_faults import FAULTS, Account, Fault, suffer

NOTICEABLE = 0.004
"""Seconds; what takes less than that did not wait for the store."""


def line(fault: Fault, seen: Account) -> str:
    waits = (seen.by_threads, seen.by_new_process, seen.failures_by_threads, seen.by_tasks)
    calls = " ".join(f"{1000 * call:.0f}" for call in seen.calls if call > NOTICEABLE)
    longest = "".join(f"{1000 * max(wait):7.0f}" for wait in waits)
    states = f"{'/'.join(seen.states):13} {'/'.join(seen.states_after):13}"
    back = f"{1000 * seen.back_after:6.0f}" if fault.is_loss else f"{'-':>6}"
    waited = f"{calls or '-':>12}{longest}{1000 * seen.loop_lag:5.0f}{back}"
    return f"{fault.name:24}{waited}  {states} {seen.act}"


def main() -> None:
    print(
        f"{'fault':24}{'calls':>12}{'50':>7}{'new':>7}{'failing':>8}{'tasks':>6}{'lag':>5}{'back':>6}"
        f"  {'during':13} {'after':13} what an operator's reset says"
    )
    for fault in FAULTS:
        print(line(fault, suffer(fault)), flush=True)


if __name__ == "__main__":
    main()
