"""The manifests for Kubernetes and the dashboard for Grafana: their linters take them, and they name what is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.serve
ROOT = Path(__file__).resolve().parents[2]
KUBERNETES, GRAFANA = ROOT / "deploy" / "kubernetes", ROOT / "deploy" / "grafana"
VERSIONS = ("1.28", "1.37")
# From the reference of kustomization.yaml.
KUSTOMIZATION = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images", "replicas"}


def loaded(name: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = loaded("webui.yaml")["spec"]["template"]["spec"]
    return found


def gib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["namespace.yaml", "service.yaml", "webui.yaml"])
def test_kubernetes_takes_the_manifests(name: str, version: str) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(loaded(name), version, strict=True)
    wrong = {**loaded(name), "specification": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_kustomization_names_what_is_there() -> None:
    found = loaded("kustomization.yaml")
    assert set(found) <= KUSTOMIZATION
    files = [*found["resources"], *(file for each in found["configMapGenerator"] for file in each["files"])]
    assert {*files, "kustomization.yaml"} == {path.name for path in KUBERNETES.iterdir()}
    images = {each["image"] for each in (*pod()["initContainers"], *pod()["containers"])}
    assert images == {each["name"] for each in found["images"]}
    maps = {each["configMap"]["name"] for each in pod()["volumes"] if "configMap" in each}
    assert maps == {each["name"] for each in found["configMapGenerator"]}
    assert [each["name"] for each in found["replicas"]] == [loaded("webui.yaml")["metadata"]["name"]]


def test_only_the_fetching_container_may_write_the_weights_and_memory_has_room_for_the_page_cache() -> None:
    (fetch,), (webui,) = pod()["initContainers"], pod()["containers"]
    writable = [each for each in (fetch, webui) for mount in each["volumeMounts"]
                if mount["name"] == "weights" and not mount.get("readOnly")]  # fmt: skip
    assert writable == [fetch]
    assert gib(webui["resources"]["limits"]["memory"]) >= 16 + 48
    assert webui["securityContext"]["capabilities"]["add"] == ["IPC_LOCK"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert webui[probe]["httpGet"] == {"path": "/flux-speedup/v1/status", "port": "http"}
    labels = loaded("webui.yaml")["spec"]["template"]["metadata"]["labels"]
    assert loaded("service.yaml")["spec"]["selector"].items() <= labels.items()


def test_fetch_takes_the_catalog_and_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from flux_speedup.configuration import config
    from flux_speedup.configuration.config import Source
    from flux_speedup.local_models.catalog import load
    from flux_speedup.local_models.fetch import _parser

    values = json.loads((KUBERNETES / "flux-speedup.json").read_text())
    source = Source("user file", values)
    catalog = load([source])
    assert catalog.problems == ()
    assert [each.folder for each in catalog.entries] == ["Stable-diffusion", "VAE", *["text_encoder"] * 2]
    assert config.load([source]).problems == ()
    given = _parser().parse_args(pod()["initContainers"][0]["args"])
    assert (given.all, str(given.dest)) == (True, "/weights")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GRAFANA / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_prometheus_reads_the_query_and_the_metric_is_served(query: str) -> None:
    import promql_parser

    plain = query.replace("$__rate_interval", "5m").replace("$instance", ".*")
    promql_parser.parse(plain)
    assert "$" not in plain
    source = (ROOT / "extensions/flux-speedup/flux_speedup/api/metrics.py").read_text()
    for name in re.findall(r"flux_speedup_(\w+)", query):
        assert f'"{name}"' in source, f"there is no metric {name}"


def test_panels_stand_side_by_side_and_have_units() -> None:
    panels = dashboard()["panels"]
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels]
    assert len({*places}) == len({each["id"] for each in panels}) == len(panels) == 8
    assert all(each["fieldConfig"]["defaults"]["unit"] and each["description"] for each in panels)
    assert {variable["name"] for variable in dashboard()["templating"]["list"]} == {"datasource", "instance"}


def test_what_the_document_says_is_what_was_run() -> None:
    rows = json.loads((ROOT / "docs" / "pool.json").read_text())["rows"]
    told = (ROOT / "docs" / "deploying.md").read_text()
    (alone, shared), routed = rows[:2], rows[2:]
    for row in (alone, shared):
        assert f"{row['pss_of_one'] / 1e6:,.0f} MB" in told
        assert f"{row['pss_together'] / 1e6:,.0f} MB" in told
    for row in routed:
        assert (row["unanswered"], row["wrong"], row["requests"]) == (0, 0, 300)
        assert f"{row['loaded']} ({row['loads_share'] * 100:.2g} %)" in told
        assert f"{row['seconds']} s" in told
