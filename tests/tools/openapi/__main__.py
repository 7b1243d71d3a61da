"""Write the document after a change of the endpoints or their descriptions."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from tests.tools.openapi.generator import PATH, as_text, build_document  # noqa: E402  needs the settings

PATH.write_text(as_text(build_document()))
print(f"{PATH} is written")  # noqa: T201
