"""What docs/deploy offers, held against the service as it is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from api.otel import FLUSH_S
from rag.settings import CacheSettings, ServiceSettings, Settings
from tests.api.running import Running, eventually, running
from tests.corpus import write_documents

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
# A name of ours, not part of a longer one; `up` is Prometheus's own.
METRIC = re.compile(r"\b(?:rag|process)_[a-z0-9_]+")
SELECTOR = re.compile(r"\b((?:rag|process)_[a-z0-9_]+)\{([^}]*)\}")
ROUTE = re.compile(r'route=~?"([^"]+)"')


@pytest.fixture(scope="module")
def exposed(library: Settings, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `/metrics` says after some work of every kind."""
    files = write_documents(tmp_path_factory.mktemp("sent"))
    settings = Settings(data_dir=shutil.copytree(library.data_dir, tmp_path_factory.mktemp("deploy") / "data"))
    with running(replace(settings, cache=CacheSettings("exact"))) as service:
        for _ in range(2):
            service.good("/v1/answer", {"query": "how hot is the oven for a loaf", "collection": "library"})
        chat = {"model": "ragwatt-eco/library", "messages": [{"role": "user", "content": "tide"}]}
        service.good("/v1/chat/completions", chat)
        path = next(path for path in files.iterdir() if path.suffix == ".md")
        sent = service.client.post("/v1/collections/new/documents", files={"file": (path.name, path.read_bytes())})
        assert service.job(sent.headers["location"])["state"] == "succeeded"
        return eventually(lambda: _metrics_of(service))


def _metrics_of(service: Running) -> str | None:
    text = service.client.get("/metrics").text
    return text if 'rag_documents_total{result="ok"} 1.0' in text else None


def dashboard() -> dict[str, Any]:
    found = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "alert-rules.yml").read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (rule["expr"] for rule in rules())


def names_of(exposed: str) -> set[str]:
    """Every name under which a sample may come: of families that have none yet, by their type."""
    suffixes = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    types = [line.split()[2:] for line in exposed.splitlines() if line.startswith("# TYPE")]
    return {name + suffix for name, kind in types for suffix in suffixes[kind]}


def labels_of(exposed: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^([a-z0-9_]+)\{([^}]*)\} ", exposed, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def test_every_metric_that_is_asked_for_is_there(exposed: str) -> None:
    asked = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(asked) > 30
    assert asked <= names_of(exposed)


def test_every_metric_of_ours_is_shown_somewhere(exposed: str) -> None:
    asked = {re.sub("_(bucket|sum|count)$", "", name) for expression in expressions() for name in METRIC.findall(expression)}
    ours = {line.split()[2] for line in exposed.splitlines() if line.startswith("# TYPE rag_")}
    assert {name for name in ours if not name.endswith("_created")} <= asked


def test_every_label_that_is_asked_for_is_there(exposed: str) -> None:
    labels = labels_of(exposed)
    checked = 0
    for expression in expressions():
        for name, selector in SELECTOR.findall(expression):
            asked = set(re.findall(r"(\w+)=", selector)) - {"job"}
            if name in labels:
                assert asked <= labels[name], expression
                checked += len(asked)
    assert checked > 5


def test_every_route_that_is_asked_for_is_there(exposed: str) -> None:
    routes = {route for expression in expressions() for found in ROUTE.findall(expression) for route in found.split("|")}
    assert routes
    assert all(f'route="{route}"' in exposed for route in routes)


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_expression_is_closed(expression: str) -> None:
    plain = re.sub(r'"[^"]*"', '""', expression)
    assert all(plain.count(opening) == plain.count(closing) for opening, closing in ("()", "{}", "[]"))
    assert expression.count('"') % 2 == 0


def test_dashboard_has_six_rows_with_panels_that_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert sum(panel["type"] == "row" for panel in panels) == 6
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_every_alert_says_what_to_do() -> None:
    found = rules()
    assert len(found) >= 6
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "0m"))


def container_steps() -> list[tuple[str, str]]:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def test_container_copies_only_what_is_there() -> None:
    sources = []
    for word, rest in container_steps():
        if word == "COPY" and not rest.startswith("--from="):
            sources += shlex.split(rest)[:-1]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_container_has_what_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = " ".join(rest for word, rest in container_steps() if word == "COPY").split()
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {*packages, project["project"]["readme"], "LICENSE", "pyproject.toml"} <= set(copied)
    assert "serve" in project["project"]["optional-dependencies"]


def test_container_runs_as_nobody_in_particular() -> None:
    last = [word for word, _ in container_steps()]
    last_stage = container_steps()[len(last) - last[::-1].index("FROM") :]
    (user,) = [rest for word, rest in last_stage if word == "USER"]
    assert int(user.split(":")[0]) >= 1000
    words = [word for word, _ in last_stage]
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert ("VOLUME", "/data") in last_stage


def test_health_check_of_the_container_sees_the_service(service: Running) -> None:
    (rest,) = [rest for word, rest in container_steps() if word == "HEALTHCHECK"]
    command = json.loads(rest[rest.index("CMD ") + 4 :])
    assert command[0] == "python"

    def status(port: str) -> int:
        found = subprocess.run([sys.executable, *command[1:]], env={"RAG_API_PORT": port}, check=False, capture_output=True)
        return found.returncode

    assert status(service.url.rsplit(":", 1)[1]) == 0
    assert status("1") != 0


def test_versions_of_the_lock_are_read_as_the_container_reads_them(tmp_path: Path) -> None:
    (line,) = [rest for word, rest in container_steps() if word == "RUN" and "sed" in rest]
    command = line[line.index("sed") :].replace("/pins.txt", str(tmp_path / "pins.txt"))
    subprocess.run(["sh", "-c", command], cwd=ROOT, check=True)
    pins = (tmp_path / "pins.txt").read_text(encoding="utf-8").splitlines()
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    assert len(pins) == len(re.findall(r"^[A-Za-z0-9]", lock, re.MULTILINE))
    assert all(re.fullmatch(r"[\w.-]+==\S+( ; .+[^\s\\])?", pin) for pin in pins)


def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "ragwatt.service").read_text(encoding="utf-8").splitlines():
        name, is_key, value = line.partition("=")
        if is_key and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_unit_waits_for_the_drain() -> None:
    assert float(unit()["TimeoutStopSec"][0]) >= ServiceSettings().drain_s + FLUSH_S


def test_unit_is_hardened() -> None:
    found = unit()
    assert found["User"] != ["root"]
    assert found["StateDirectory"] == ["ragwatt"]
    for name in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "ProtectKernelModules", "RestrictSUIDSGID"):
        assert found[name] == ["yes"]
    assert found["ProtectSystem"] == ["strict"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "ragwatt.service").read_text(encoding="utf-8")
    # It would look for the program where only an installation has it.
    (tmp_path / "ragwatt.service").write_text(re.sub("^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "ragwatt.service")], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_page_names_every_file_of_the_folder() -> None:
    text = (DEPLOY / "deploy.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in text for path in DEPLOY.iterdir() if path.name != "deploy.md")
