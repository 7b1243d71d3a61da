"""What an operator reads when the store refuses."""

import pytest
from redis.exceptions import ResponseError

from analytics_admin.connections import explain


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("MISCONF Errors writing to the AOF file: No space left", "write its data to disk"),
        ("MASTERDOWN Link with MASTER is down", "has lost its primary"),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL", "with a script"),
        ("BUSY Valkey is busy running a module command.", "with a script"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "out of memory"),
        ("ERR something else with s3cret", "the store refused the command"),
    ],
)
def test_a_refusal_is_told_in_words_of_our_own(refusal, words):
    reason = explain(ResponseError(refusal))
    assert words in reason
    assert refusal not in reason
