"""Compares the queries of the alerts and of the board with scrapes, and the container files with the settings.

Every metric that a query names is in a scrape, with every label that it is selected or grouped by, and every value that a
label is compared with occurs: the counters begin with all their labels at 0.
"""

import json
import re
import subprocess
import sys

import promql_parser as promql
import yaml

program, *scrapes = sys.argv[1:]
# What Prometheus adds to each series itself.
ADDED = {"job", "instance"}
SAMPLE = re.compile(r"^([a-z_][a-z0-9_]*)(?:\{(.*)\})? \S+$")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def series_of(paths):
    found = {"up": [{}]}
    for path in paths:
        for line in open(path):
            sample = SAMPLE.match(line.strip())
            if sample:
                found.setdefault(sample[1], []).append(dict(LABEL.findall(sample[2] or "")))
    return found


def children(node):
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, (str, float)):
            yield child
    args = getattr(node, "args", None)
    yield from (args if isinstance(args, list) else [])


def selectors(node):
    if isinstance(node, promql.VectorSelector):
        yield node
    else:
        for child in children(node):
            yield from selectors(child)


def check(node, known, faults):
    """Collects what does not exist; answers nothing."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql.AggregateExpr) and modifier is not None:
        there = set()
        for selector in selectors(node.expr):
            there.update(*known.get(selector.name, [{}]))
        for label in set(modifier.labels) - ADDED - there:
            faults.append(f"grouped by {label}, which no series has")
    if isinstance(node, promql.VectorSelector):
        if node.name not in known:
            faults.append(f"{node.name} is in no scrape")
            return
        for matcher in node.matchers.matchers:
            if matcher.name in ADDED:
                continue
            values = {labels.get(matcher.name, "") for labels in known[node.name]}
            if values == {""}:
                faults.append(f"{node.name} has no label {matcher.name}")
            wanted = matcher.value.split("|") if matcher.op == promql.MatchOp.Re else [matcher.value]
            if matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re):
                faults += [f"{node.name} has no {matcher.name}={one!r}" for one in wanted if one not in values]
    for child in children(node):
        check(child, known, faults)


def queries():
    rules = yaml.safe_load(open("deploy/prometheus/rules.yml"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.load(open("deploy/grafana/group-mirror.json"))
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "5m").replace("$job", "job").replace("$instance", "i")
            yield f"panel {panel['title']!r}", text
    for variable in board["templating"]["list"]:
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", str(variable["query"]))
        if asked:
            yield f"variable {variable['name']}", asked[1].replace("$job", "job")


known, wrong, count = series_of(scrapes), [], 0
for where, text in queries():
    faults = []
    check(promql.parse(text), known, faults)
    wrong += [f"{where}: {fault}" for fault in faults]
    count += 1
if wrong or count < 60:
    sys.exit("\n".join(wrong) or f"only {count} queries were found")
print(f"{count} queries name metrics, labels and values that a scrape has")

settings = set(re.findall(r"\[env: ([A-Z_]+)", subprocess.run([program, "--help"], capture_output=True, text=True).stdout))
compose = yaml.safe_load(open("deploy/compose.yaml"))
named = set()
for service in compose["services"].values():
    if "group-mirror" in str(service.get("image")):
        named |= set(service.get("environment", {}))
for line in re.findall(r"^ENV (.*(?:\\\n.*)*)", open("deploy/Containerfile").read(), re.M):
    named |= set(re.findall(r"([A-Z_]+)=", line))
if len(settings) < 30 or not named or named - settings:
    sys.exit(f"no settings of the program: {sorted(named - settings)} of {sorted(named)}")
print(f"container and compose file set {len(named)} settings, each of which the program has")
