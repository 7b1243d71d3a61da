"""The messages that operators read when the store refuses, and how commands are packed."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from django_redis.pool import ConnectionFactory
from redis._parsers.base import BaseParser
from redis.exceptions import RedisClusterException, ResponseError

from analytics_admin.breakers import circuit_breaker
from analytics_admin.caching import SearchCache
from analytics_admin.stores.client import (
    StoreUnavailable,
    database_of,
    dedicated_client,
    explain_error,
)
from analytics_admin.stores.connections import is_elsewhere

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


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("READONLY You can't write against a read only replica.", "a read-only replica"),
        ("MASTERDOWN Link with MASTER is down.", "has lost its primary"),
        ("NOREPLICAS Not enough good replicas to write.", "has lost its replicas"),
        ("MOVED 866 127.0.0.1:7001", "another node of the cluster"),
        ("ASK 866 127.0.0.1:7001", "moving the key"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "moving the key"),
        ("CLUSTERDOWN Hash slot not served", "no node for the key"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "several nodes"),
    ],
)
def test_what_a_server_answers_that_is_not_the_one_has_words_of_its_own(refusal, words):
    error = BaseParser.parse_error(refusal)
    assert words in explain_error(error)
    assert is_elsewhere(error) is not refusal.startswith("CROSSSLOT")


class ManyServers:
    """A client class that connects to a cluster by itself."""

    def __init__(self, **options):
        raise AssertionError("it would connect in somebody's call")


class Factory(ConnectionFactory):
    """Makes clients as the recipes for a cluster do."""

    def connect(self, url):
        if url.endswith("/0"):
            raise RedisClusterException("cannot be reached")
        return SimpleNamespace(nodes=[])


UNUSABLE = [
    {"REDIS_CLIENT_CLASS": "redis.cluster.RedisCluster"},
    {"REDIS_CLIENT_CLASS": f"{__name__}.ManyServers"},
    {"REDIS_CLIENT_CLASS": f"{__name__}.NoSuchName"},
    {"CONNECTION_FACTORY": f"{__name__}.Factory"},
]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("options", UNUSABLE)
def test_an_unusable_client_class_never_reaches_a_call(options, number, settings):
    alias = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": f"redis://127.0.0.1:1/{number}",
        "OPTIONS": options,
    }
    settings.CACHES = {**settings.CACHES, "search": alias, "breakers": alias}
    with pytest.raises(StoreUnavailable):
        dedicated_client("search", timeout=1)
    cache = SearchCache(lambda: "search")
    assert cache.lookup("q", lambda: 1).value == 1
    assert circuit_breaker("unusable").call(lambda: 2) == 2
    assert database_of("search") is None


def test_a_signal_while_a_command_is_packed_does_not_end_the_process():
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True)


def test_each_connection_packs_commands_so():
    connection = dedicated_client("default", timeout=1).connection_pool.make_connection()
    packed = connection.pack_command("SET", "a", 1, 2.5, -3, 1e300, b"4", "\N{SNOWMAN}")
    parts = [b"SET", b"a", b"1", b"2.5", b"-3", b"1e+300", b"4", "\N{SNOWMAN}".encode()]
    expected = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    assert b"".join(packed) == b"*8\r\n" + expected
    assert type(connection._command_packer).__name__ == "CommandPacker"
