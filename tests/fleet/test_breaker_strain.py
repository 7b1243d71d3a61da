"""A process under strain loses no store and obeys: rows of the benchmark, for a few seconds."""

from tests.benchmarks.breaker_strain import STRAINS, measure

QUIET = [strain for strain in STRAINS if not strain.busy_threads and not strain.in_gevent]
"""Those that leave processor time to the other tests."""
SECONDS = 12.0
BETWEEN = 1.2
SPARE = 1.0
"""Seconds by which the machine of the tests, which is busy, may be late."""


def test_processes_under_strain_lose_no_store_and_obey():
    for figures in measure(QUIET, seconds=SECONDS, between=BETWEEN):
        assert not figures.lost, figures
        assert len(figures.beyond) > 1, figures
        assert max(figures.beyond) <= SPARE, figures
        call, control = figures.p99
        assert call - control <= 0.01, figures
