"""The pages on monitoring are complete and invent nothing, and their examples work."""

import json
import re
from dataclasses import fields
from typing import Any

import pytest
import yaml
from django.http import HttpResponse
from django.test import Client

from analytics_admin.monitoring import doctor, metrics
from analytics_admin.monitoring.health import DEPENDENCIES
from analytics_admin.monitoring.urls import urlpatterns
from tests.docs.pages import DOCS, code_blocks, first_names, names, read, rows

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
    example, _ = code_blocks(GUIDE, "yaml")
    (container,) = yaml.safe_load(example)["containers"]
    probes = [container[name]["httpGet"]["path"] for name in ("livenessProbe", "readinessProbe")]
    assert probes == ["/healthz", "/readyz"]
    assert [Client().get(probe).status_code for probe in probes] == [200, 200]


def test_every_metric_is_there_with_its_type_and_labels_and_none_is_invented() -> None:
    told = {names(row[0])[0]: (row[1], tuple(names(row[2]))) for row in rows(REFERENCE, "metric")}
    assert told == {it.name: (it.kind, it.labels) for it in metrics.FAMILIES.values()}


SERIES = {
    f"{metrics.PREFIX}_{it.name}{'_total' if it.kind == 'counter' else ''}": it.labels
    for it in metrics.FAMILIES.values()
}
FILES = DOCS / "monitoring"


def expressions() -> list[str]:
    """Return every expression of the dashboard and of the rules."""
    dashboard = json.loads((FILES / "grafana-dashboard.json").read_text())
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text())
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
        *(it["query"]["query"] for it in dashboard["templating"]["list"] if it["type"] == "query"),
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
    ]


def test_dashboard_and_alerts_name_only_metrics_and_labels_that_exist() -> None:
    found = " ".join(expressions())
    used = set(re.findall(r"analytics_admin_\w+", found))
    assert used <= SERIES.keys()
    assert len(used) > 15
    selected = re.findall(r"(analytics_admin_\w+)\{([^}]*)\}", found)
    for name, selector in selected:
        assert set(re.findall(r"(\w+)=", selector)) - {"job"} <= set(SERIES[name]), name
    shown = {label for labels in SERIES.values() for label in labels} | {"job"}
    for labels in re.findall(r"by \(([^)]*)\)", found):
        assert set(labels.split(", ")) <= shown


def test_panels_have_ids_and_places_of_their_own() -> None:
    panels = json.loads((FILES / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_every_alert_says_what_it_means() -> None:
    (group,) = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_the_scrape_of_the_example_is_what_the_endpoint_wants() -> None:
    _, example = code_blocks(GUIDE, "yaml")
    (job,) = yaml.safe_load(example)["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["authorization"]["type"] == "Bearer"


def test_every_field_of_the_doctors_report_is_there_and_none_is_invented() -> None:
    assert first_names(REFERENCE, "field") == [item.name for item in fields(doctor.Report)]
    told = [name for row in rows(REFERENCE, "of a store") for name in names(row[0])]
    assert sorted(told) == sorted(item.name for item in fields(doctor.StoreReport))
    (sentence,) = re.findall(r"A finding has an (.*?what to do)", REFERENCE, re.DOTALL)
    assert {item.name for item in fields(doctor.Finding)} <= set(names(sentence))


def test_every_finding_of_the_doctors_own_is_there_with_its_level() -> None:
    source = (DOCS.parent / "analytics_admin/monitoring/doctor.py").read_text()
    found = dict(re.findall(r'id="(\w+)",\s+level="(\w+)"', source))
    assert {names(row[0])[0]: row[1] for row in rows(REFERENCE, "finding")} == found
