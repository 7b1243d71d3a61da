"""Prometheus itself takes the rules and the configuration that the documentation has."""

import subprocess
from pathlib import Path

from tests.docs.pages import DOCS, code_blocks, read

GUIDE, FILES = read("howto/monitor.md"), DOCS / "monitoring"


def test_prometheus_itself_takes_rules_and_configuration(tmp_path: Path) -> None:
    _, example = code_blocks(GUIDE, "yaml")
    configuration = tmp_path / "prometheus.yml"
    (tmp_path / "metrics-token").write_text("token")
    placed = example.replace("/etc/prometheus/metrics-token", str(tmp_path / "metrics-token"))
    configuration.write_text(placed)
    for kind, path in (("rules", FILES / "alerts.yaml"), ("config", configuration)):
        subprocess.run(["promtool", "check", kind, path], check=True, timeout=30)
