"""The pages on monitoring are complete and invent nothing, and their examples work."""

from typing import Any

import pytest
import yaml
from django.http import HttpResponse
from django.test import Client

from analytics_admin.monitoring.health import DEPENDENCIES
from analytics_admin.monitoring.urls import urlpatterns
from tests.docs.pages import code_blocks, first_names, read

REFERENCE, GUIDE = read("reference/monitoring.md"), read("howto/monitor.md")


def test_every_endpoint_is_there_and_none_is_invented() -> None:
    mounted = {f"/{pattern.pattern}" for pattern in urlpatterns}
    assert set(first_names(REFERENCE, "endpoint")) == mounted


def test_every_check_of_the_probe_is_there_and_none_is_invented() -> None:
    assert first_names(REFERENCE, "check") == list(DEPENDENCIES)


def test_the_example_of_mounting_works(settings: Any) -> None:
    (example,) = code_blocks(REFERENCE, "python")
    site: dict[str, Any] = {"view": HttpResponse}
    exec(compile(example, "monitoring", "exec"), site)
    settings.MIDDLEWARE = site["MIDDLEWARE"]
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": site["urlpatterns"]})
    assert Client().get("/healthz", headers={"host": "10.0.0.1"}).status_code == 200


@pytest.mark.django_db
def test_the_probes_of_kubernetes_ask_what_answers() -> None:
    (example,) = code_blocks(GUIDE, "yaml")
    (container,) = yaml.safe_load(example)["containers"]
    probes = [container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == ["/healthz", "/readyz"]
    assert [Client().get(probe).status_code for probe in probes] == [200, 200]
