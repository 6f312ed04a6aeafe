"""Alert rules, dashboard, runbook and code speak of the same things."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.metrics import MetricWrapperBase

ROOT = Path(__file__).parents[3]
RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
DASHBOARD = json.loads((ROOT / "deploy/grafana/indexer.json").read_text())
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
METRIC = re.compile(r"\bemr_[a-z_]+\b")
MODULES = (
    "emr_common.telemetry",
    "emr_consent.sharer.worker",
    "emr_consent.webhooks.deliverer",
    "emr_indexer.metrics",
    "emr_indexer.projector.metrics",
    "emr_indexer.relay.metrics",
)


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def exported() -> set[str]:
    """Names of the samples that the processes' metrics give."""
    found: set[str] = set()
    for name in MODULES:
        for metric in vars(import_module(name)).values():
            if isinstance(metric, MetricWrapperBase):
                described = next(iter(metric.describe()))
                endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(
                    described.type, ("",)
                )
                found |= {described.name + ending for ending in endings}
    return found


def test_every_alert_has_a_paragraph_in_the_runbook_and_the_other_way_round() -> None:
    paragraphs = dict(re.findall(r"^### (\w+)\n(.+?)(?=\n### |\Z)", RUNBOOK, re.DOTALL | re.MULTILINE))
    assert set(paragraphs) == {rule["alert"] for rule in rules()}
    assert all(len(text.split()) > 20 for text in paragraphs.values())


def test_every_metric_of_rules_dashboard_and_runbook_is_exported() -> None:
    texts = [*(rule["expr"] for rule in rules()), *dashboard_queries()]
    named = {name for text in texts for name in METRIC.findall(text)}
    assert len(named) > 15
    assert named <= exported()
    bases = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in exported()} | exported()
    assert set(METRIC.findall(RUNBOOK)) <= bases


def test_every_rule_says_how_bad_it_is_and_what_happened() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_the_dashboard_shows_what_the_alerts_watch_and_no_panel_lies_on_another() -> None:
    shown = {name for query in dashboard_queries() for name in METRIC.findall(query)}
    for metric in ("emr_indexer_lag_blocks", "emr_indexer_lag_seconds", "emr_projector_events_total"):
        assert metric in shown
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    cells = [(x + dx, y + dy) for x, y, w, h in places for dx in range(w) for dy in range(h)]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
