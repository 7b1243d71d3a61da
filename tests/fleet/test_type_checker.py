"""A site's type checker passes right options of a breaker and refuses what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RIGHT = """\
from datetime import timedelta

from analytics_admin.breakers import PolicyOptions, circuit_breaker


def is_bad(status: int) -> bool:
    return status >= 500


@circuit_breaker("plain")
def ask() -> int:
    return 200


circuit_breaker("run", failure_threshold=3, wait_duration_in_open_state=30)
circuit_breaker(
    "rate",
    failure_threshold=None,
    failure_rate_threshold=50,
    slow_call_rate_threshold=12.5,
    slow_call_duration_threshold=timedelta(seconds=2),
    sliding_window_type="time_based",
    max_wait_duration_in_open_state=None,
    record_exceptions=OSError,
    ignore_exceptions=[KeyError, ValueError],
    record_result=is_bad,
)
shared: PolicyOptions = {"randomized_wait_factor": 0.2}
circuit_breaker("shared", **shared)
BREAKERS: dict[str, PolicyOptions] = {"stock": {"failure_threshold": 9}}
status: int = ask()
"""
WRONG = [
    # a line, and what mypy says of it
    ('circuit_breaker("a", failure_treshold=5)', "did you mean .*failure_threshold"),
    ('circuit_breaker("b", failure_threshold="5")', "incompatible type .*str.*; expected .*int"),
    ('circuit_breaker("c", minimum_number_of_calls=None)', "incompatible type .*None"),
    ('circuit_breaker("d", sliding_window_type="seconds")', "incompatible type .*seconds"),
    ('circuit_breaker("e", ignore_exceptions=[KeyError()])', "incompatible type .*KeyError"),
    ('circuit_breaker("f", record_result=True)', "incompatible type .*bool"),
    ('BREAKERS["g"] = {"failure_treshold": 5}', "Extra key .*failure_treshold"),
    ('BREAKERS["h"] = {"wait_duration_in_open_state": "30"}', "Incompatible types .*str"),
    ("wrong: str = ask()", "Incompatible types in assignment"),
]


def test_mypy_passes_right_options_and_refuses_wrong_ones(tmp_path: Path) -> None:
    wrong_lines = [line for line, _ in WRONG]
    (tmp_path / "shop.py").write_text(RIGHT + "\n".join(wrong_lines) + "\n")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nignore_missing_imports = true\n")
    options = ("--no-site-packages", "--follow-imports=silent", "--no-error-summary")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir=cache", "shop.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stderr == ""
    errors = {
        int(number): message
        for number, message in re.findall(r"^shop\.py:(\d+): error: (.+)$", result.stdout, re.M)
    }
    first = RIGHT.count("\n") + 1
    assert sorted(errors) == list(range(first, first + len(WRONG))), result.stdout
    for number, (_, message) in enumerate(WRONG, start=first):
        assert re.search(message, errors[number]), errors[number]
