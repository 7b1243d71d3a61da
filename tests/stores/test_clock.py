"""The reckoned clock of a server follows its best answers, and a clock that was set back."""

from hypothesis import given
from hypothesis import strategies as st

from analytics_admin.stores.clock import PERIOD_SECONDS, ServerClock

AHEAD = 1000.0


def heard(
    clock: ServerClock, at: float, *, sent: float, back: float, ahead: float = AHEAD
) -> float:
    """Note an answer whose question took ``sent`` seconds and it ``back``; return the error."""
    clock.note(at + ahead, asked_at=at - sent, heard_at=at + back)
    assert clock.offset is not None
    return clock.offset - ahead


def test_a_late_answer_does_not_move_it():
    clock = ServerClock()
    assert round(heard(clock, 1.0, sent=0.001, back=0.001), 6) == -0.001
    assert round(heard(clock, 2.0, sent=0.001, back=0.4), 6) == -0.001


def test_the_best_of_the_last_minute_counts_at_most():
    clock = ServerClock()
    heard(clock, 0.0, sent=0.001, back=0.001)
    for at in (PERIOD_SECONDS + 1, 2 * PERIOD_SECONDS + 2):
        error = heard(clock, at, sent=0.1, back=0.1)
    assert round(error, 6) == -0.1


def test_a_clock_that_was_set_back_is_believed_at_the_first_answer():
    clock = ServerClock()
    heard(clock, 1.0, sent=0.001, back=0.001)
    assert abs(heard(clock, 2.0, sent=0.001, back=0.001, ahead=AHEAD - 0.3)) <= 0.001
    assert abs(heard(clock, 3.0, sent=0.001, back=0.001, ahead=AHEAD + 5)) <= 0.001


@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 10),
            st.floats(0.0, 0.5),
            st.floats(0.0, 0.5),
        ),
        min_size=1,
    )
)
def test_it_is_never_ahead_of_the_server_and_no_later_than_the_answer(answers):
    clock, at = ServerClock(), 0.0
    for pause, sent, back in answers:
        at += pause
        error = heard(clock, at, sent=sent, back=back)
        assert -back - 1e-6 <= error <= 1e-6
        at += back
