"""The curl lines and commands that do the same as an operation in the admin.

The options of an operation are its service's arguments, without actor and dry run.
"""

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from django.urls import NoReverseMatch, reverse
from django.utils.translation import ngettext

from analytics_admin.models import Operation

MAX_LINES = 20
"""Lines of one operation on many breakers; further ones are only counted."""
SECONDS = {"d": 86_400, "h": 3600, "m": 60}

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str = "POST"
    view: str
    name: str | None = None
    body: Options = field(default_factory=dict)


def curl_equivalents(
    kind: Operation.Kind, options: Options, *, absolute: Callable[[str], str]
) -> list[str]:
    """Return the REST requests; none where the API is not mounted.

    ``absolute`` makes a URL of a path.
    """
    try:
        return _as_lines([_curl(_REQUESTS[kind](one), one, absolute) for one in _split(options)])
    except NoReverseMatch:
        return []


def command_equivalents(kind: Operation.Kind, options: Options) -> list[str]:
    """Return the commands, to be run in the folder of ``manage.py``."""
    return _as_lines([_command(_COMMANDS[kind](one), one) for one in _split(options)])


def _as_lines(lines: Sequence[str]) -> list[str]:
    more = len(lines) - MAX_LINES
    if more <= 0:
        return list(lines)
    text = ngettext("and %(number)d more", "and %(number)d more", more)
    return [*lines[:MAX_LINES], f"# … {text % {'number': more}}"]


def _split(options: Options) -> list[Options]:
    """Return the operations; REST and the command hold one breaker at a time."""
    if "control" not in options:
        return [options]
    return [{**options, "names": [name]} for name in _names(options)]


def _names(options: Options) -> list[str]:
    return [options["name"]] if "name" in options else list(options.get("names") or ())


def _name(options: Options) -> str:
    (name,) = _names(options)
    return name


def _generation(options: Options) -> str | None:
    """Return the expected generation; operations on several breakers have none."""
    names, expected = _names(options), options.get("expected_generation")
    if expected is None or len(names) != 1:
        return None
    return expected if isinstance(expected, str) else expected.get(names[0])


def _curl(request: _Request, options: Options, absolute: Callable[[str], str]) -> str:
    names = [] if request.name is None else [request.name]
    url = absolute(reverse(f"analytics_admin:{request.view}", args=names))
    words = ["curl", "-X", request.method, shlex.quote(url), '-H "Authorization: Bearer $TOKEN"']
    generation = None if request.name is None else _generation(options)
    if generation is not None:
        words += ["-H", shlex.quote(f'If-Match: "{quote(generation, safe=":")}"')]
    body = {**request.body, **_present(options, "reason")}
    if body:
        words += ["-H", shlex.quote("Content-Type: application/json")]
        words += ["-d", shlex.quote(json.dumps(body))]
    return " ".join(words)


def _command(arguments: Sequence[str], options: Options) -> str:
    words = ["python", "manage.py", *arguments]
    generation = _generation(options)
    words += [] if generation is None else [_option("--if-generation", generation)]
    words += [
        "--no-input",
        *(_option("--reason", reason) for reason in _present(options, "reason").values()),
    ]
    return " ".join(words)


def _option(name: str, value: str) -> str:
    """Return the option as one word: a value may begin with a dash."""
    return f"{name}={shlex.quote(value)}"


def _present(options: Options, *keys: str) -> dict[str, Any]:
    """Return those of the options that are not empty."""
    return {key: options[key] for key in keys if options.get(key)}


def _clear_request(options: Options) -> _Request:
    soft = {"mode": "soft"} if options.get("mode") == "soft" else {}
    return _Request(view="cache-clear", body={**soft, **_present(options, "tags")})


def _reset_request(options: Options) -> _Request:
    names = _names(options)
    if len(names) == 1 and not options.get("only_open"):
        return _Request(view="circuit-breaker-reset", name=names[0])
    named = {"names": names} if names else {}
    return _Request(view="circuit-breakers-reset", body={**named, **_present(options, "only_open")})


def _control_request(options: Options) -> _Request:
    seconds = options.get("for_seconds")
    duration = {} if seconds is None else {"for_seconds": _json_seconds(seconds)}
    body = {"control": options["control"], **duration}
    return _Request(method="PUT", view="circuit-breaker-control", name=_name(options), body=body)


def _json_seconds(seconds: float) -> float | str:
    if seconds == math.inf:
        return "ever"
    return int(seconds) if seconds == int(seconds) else seconds


_REQUESTS: dict[Operation.Kind, Callable[[Options], _Request]] = {
    Operation.Kind.CLEAR_SEARCH_CACHE: _clear_request,
    Operation.Kind.UNDO_CLEAR: lambda options: _Request(view="cache-undo"),
    Operation.Kind.RESET_CIRCUIT_BREAKERS: _reset_request,
    Operation.Kind.CONTROL_CIRCUIT_BREAKERS: _control_request,
    Operation.Kind.ALLOW_PROBE: lambda options: _Request(
        view="circuit-breaker-probe", name=_name(options)
    ),
    Operation.Kind.FORGET_CIRCUIT_BREAKER: lambda options: _Request(
        method="DELETE", view="circuit-breaker", name=_name(options)
    ),
}


def _clear(options: Options) -> list[str]:
    soft = ["--soft"] if options.get("mode") == "soft" else []
    return [
        "clear_search_cache",
        *soft,
        *(_option("--tag", tag) for tag in options.get("tags") or ()),
    ]


def _reset(options: Options) -> list[str]:
    only = ["--only-open"] if options.get("only_open") else []
    return ["reset_circuit_breakers", *map(shlex.quote, _names(options)), *only]


def _control(options: Options) -> list[str]:
    seconds = options.get("for_seconds")
    duration = [] if seconds is None else [_option("--for", _duration(seconds))]
    return ["set_circuit_breaker", shlex.quote(_name(options)), options["control"], *duration]


def _duration(seconds: float) -> str:
    """Return the seconds as the commands take them: "15m"."""
    if seconds == math.inf:
        return "ever"
    unit = next((unit for unit, size in SECONDS.items() if seconds % size == 0), "s")
    return f"{seconds / SECONDS.get(unit, 1):.9f}".rstrip("0").rstrip(".") + unit


_COMMANDS: dict[Operation.Kind, Callable[[Options], list[str]]] = {
    Operation.Kind.CLEAR_SEARCH_CACHE: _clear,
    Operation.Kind.UNDO_CLEAR: lambda options: ["undo_clear"],
    Operation.Kind.RESET_CIRCUIT_BREAKERS: _reset,
    Operation.Kind.CONTROL_CIRCUIT_BREAKERS: _control,
    Operation.Kind.ALLOW_PROBE: lambda options: ["allow_probe", shlex.quote(_name(options))],
    Operation.Kind.FORGET_CIRCUIT_BREAKER: lambda options: [
        "forget_circuit_breaker",
        shlex.quote(_name(options)),
    ],
}
