"""Alert rules, dashboard, runbook and code speak of the same things."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from emr_indexer.refusals import Refusal
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
    for metric in metrics():
        described = next(iter(metric.describe()))
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(described.type, ("",))
        found |= {described.name + ending for ending in endings}
    return found


def metrics() -> list[MetricWrapperBase]:
    named = [each for name in MODULES for each in vars(import_module(name)).values()]
    return [each for each in named if isinstance(each, MetricWrapperBase)]


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


def test_what_an_alert_counts_is_there_before_it_happens() -> None:
    """A series whose first sample is 1 has not increased, as Prometheus sees it."""
    labels: dict[str, set[str]] = {"code": set(Refusal), "kind": {"own", "shared", "unendorsed"}}
    counted = {name for rule in rules() for name in re.findall(r"increase\((\w+)", rule["expr"])}
    assert len(counted) > 3
    for name in counted:
        (counter,) = (each for each in metrics() if next(iter(each.describe())).name + "_total" == name)
        samples = [sample for family in counter.collect() for sample in family.samples if sample.name == name]
        for label in counter._labelnames:
            assert labels[label] <= {sample.labels[label] for sample in samples}
        assert samples


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
