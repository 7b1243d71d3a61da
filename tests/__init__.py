"""The tests. They keep what Python has compiled, which the programs they start would do again."""

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
