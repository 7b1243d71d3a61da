"""Writes the locks below ``.requirements/``: each package that requirements.txt leads to, hashed.

``python -m tests.tools.lock`` keeps what is locked already, as far as requirements.txt lets it;
``--upgrade`` takes the newest. It needs the program ``uv``, which no requirement brings.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements.txt"
LOCKS = ROOT / ".requirements"
SITE, TESTS = LOCKS / "site.txt", LOCKS / "tests.txt"
HEAD = """\
# {what}
# Written by `python -m tests.tools.lock`: change requirements.txt instead.
"""
# The one platform that is promised; without this there would be packages for others.
PLATFORM = "implementation_name == 'cpython' and sys_platform == 'linux'"
SETTINGS = f"""
[project]
name = "locked"
version = "0"
requires-python = ">=3.11"

[tool.uv]
environments = ["{PLATFORM}"]
"""


def main() -> None:
    _, app, site, tests = re.split(r"^# Block .*$", REQUIREMENTS.read_text(), flags=re.MULTILINE)
    upgrade = "--upgrade" in sys.argv
    former = "" if upgrade else "".join(path.read_text() for path in (SITE, TESTS) if path.exists())
    everything = compiled(app + site + tests, former)
    needed = compiled(app + site, "".join(everything.values()))
    LOCKS.mkdir(exist_ok=True)
    # With the conditions of everything: tests may need a package also where the site does not.
    for path, what, is_in in (
        (SITE, "The app and the site `project`.", lambda name: name in needed),
        (TESTS, "Tests and checks, besides site.txt.", lambda name: name not in needed),
    ):
        lines = "".join(text for name, text in everything.items() if is_in(name))
        path.write_text(HEAD.format(what=what) + lines)


def compiled(direct: str, former: str) -> dict[str, str]:
    """Return by name the locked lines of all packages that these requirements lead to."""
    with tempfile.TemporaryDirectory() as folder:
        source, lock = Path(folder, "direct.txt"), Path(folder, "lock.txt")
        source.write_text(direct)
        lock.write_text(former)  # uv prefers these versions
        Path(folder, "pyproject.toml").write_text(SETTINGS)
        options = ["--universal", "--python-version=3.11", "--generate-hashes", "--quiet"]
        form = ["--no-header", "--no-annotate", f"--output-file={lock}"]
        command = ["uv", "pip", "compile", str(source), *options, *form]
        subprocess.run(command, cwd=folder, check=True)
        lines = lock.read_text()
    for marker in (f" and {PLATFORM}", f" ; {PLATFORM}"):
        lines = lines.replace(marker, "")
    lines = lines.replace("implementation_name == 'cpython' and ", "")
    lines = lines.replace(" and sys_platform == 'linux'", "")
    packages = re.findall(r"^(\S+?)==[^\n]*\n(?: [^\n]*\n)*", lines, re.MULTILINE)
    texts = re.findall(r"^\S+?==[^\n]*\n(?: [^\n]*\n)*", lines, re.MULTILINE)
    assert "".join(texts) == lines, "the lock has lines of another form"
    return dict(zip(packages, texts, strict=True))


if __name__ == "__main__":
    main()
