"""Who wants the machine alone gets it; the others share it."""

import threading

import pytest

from tests.support.turns import Turns


@pytest.fixture
def begin(tmp_path):
    """Begin a turn in a thread, as one more process would; return its beginning and its end."""
    threads = []

    def begin(*, alone):
        begun, end = threading.Event(), threading.Event()

        def take():
            with Turns(tmp_path).turn(alone=alone):
                begun.set()
                end.wait(10)

        threads.append((threading.Thread(target=take), end))
        threads[-1][0].start()
        return begun, end

    yield begin
    for _, end in threads:
        end.set()
    for thread, _ in threads:
        thread.join()


def test_turns_that_share_the_machine_run_together(begin):
    for _ in range(3):
        begun, _ = begin(alone=False)
        assert begun.wait(20)


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_turn_alone_waits_for_the_others_and_they_for_it(begin, first, second):
    begun, end = begin(alone=first)
    assert begun.wait(20)
    later, _ = begin(alone=second)
    assert not later.wait(0.1)
    end.set()
    assert later.wait(5)


def test_nobody_comes_in_before_one_that_waits_for_the_machine(begin):
    begun, end = begin(alone=False)
    assert begun.wait(20)
    alone, its_end = begin(alone=True)
    assert not alone.wait(0.1)
    latest, _ = begin(alone=False)
    assert not latest.wait(0.1)
    end.set()
    assert alone.wait(5)
    assert not latest.wait(0.1)
    its_end.set()
    assert latest.wait(5)
