"""The messages that operators read when the store refuses, and how commands are packed."""

import subprocess
import sys

import pytest
from redis.exceptions import ResponseError

from analytics_admin.stores.client import dedicated_client, explain_error

INTERRUPTED = """
import signal
from analytics_admin.stores.client import CommandPacker

def interrupt(*args):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
for _ in range(20):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        CommandPacker().pack("EVALSHA", *[1, 1.5] * 50_000)
        signal.pause()
    except KeyboardInterrupt:
        pass
"""


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
def test_an_error_of_the_server_gets_a_message_of_our_own(refusal, words):
    reason = explain_error(ResponseError(refusal))
    assert words in reason
    assert refusal not in reason


def test_a_signal_while_a_command_is_packed_does_not_end_the_process():
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True)


def test_each_connection_packs_commands_so():
    connection = dedicated_client("default", timeout=1).connection_pool.make_connection()
    packed = connection.pack_command("SET", "a", 1, 2.5, -3, 1e300, b"4", "\N{SNOWMAN}")
    parts = [b"SET", b"a", b"1", b"2.5", b"-3", b"1e+300", b"4", "\N{SNOWMAN}".encode()]
    expected = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    assert b"".join(packed) == b"*8\r\n" + expected
    assert type(connection._command_packer).__name__ == "CommandPacker"
