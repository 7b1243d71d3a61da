"""List the benchmarks: ``python -m tests.benchmarks``. None runs with the tests."""

import ast
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        source = path.read_text()
        if not path.name.startswith("_") and 'if __name__ == "__main__"' in source:
            docstring = ast.get_docstring(ast.parse(source)) or ""
            print(f"python -m tests.benchmarks.{path.stem:<12} {docstring.partition(chr(10))[0]}")


if __name__ == "__main__":
    main()
