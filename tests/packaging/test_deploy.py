"""What is in deploy/: linted by its own tools, and agreeing with what it deploys.

The chart is rendered by Go's templates with the functions that Helm gives them (`include` and others of Helm's own are not used in it).
No image is built here, and no cluster is asked.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gollama.server import ServerConfig, read_config
from tools import pins

FOLDER = pins.ROOT / "deploy"
CHART = FOLDER / "helm" / "gollama"
KUBERNETES = "1.30"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="deploy/ is in the checkout only")


def run(*command: object) -> None:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def tool(name: str) -> str:
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def read_yaml(text: str) -> list[Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return [one for one in yaml.safe_load_all(text) if one]


# ---- images ----


def test_hadolint_passes_the_dockerfile() -> None:
    run(tool("hadolint"), FOLDER / "Dockerfile")


def test_there_is_an_image_of_each_backend_of_linux() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    names = {wheel.distribution.removeprefix("gollama-") for wheel in pins.load().wheels if wheel.system == "linux"}
    assert set(re.findall(r"AS base-(\w+)", text)) == names


def test_backends_from_a_vendor_s_container_run_in_it() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    for wheel in pins.load().wheels:
        if wheel.container:
            assert f"FROM {wheel.container} AS base-{wheel.distribution.removeprefix('gollama-')}\n" in text


def test_compose_keeps_to_its_schema() -> None:
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml")


def test_compose_sets_what_there_is() -> None:
    (document,) = read_yaml((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    assert set(document["services"]) == {"gollama", "gollama-cuda", "gollama-vulkan"}
    for service in document["services"].values():
        known = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in service["environment"].items()}
        config = read_config({}, environment=known)
        assert config.models == ("smollm2",) and config.drain_timeout < int(service["stop_grace_period"].removesuffix("s"))
        assert {name for name in known if known[name]} <= settings()
        assert service["read_only"] and service["cap_drop"] == ["ALL"]


def settings() -> set[str]:
    """The variables that the server reads."""
    from gollama.options import LoadOptions

    fields = (*dataclasses.fields(ServerConfig), *dataclasses.fields(LoadOptions))
    return {f"GOLLAMA_{field.name.upper()}" for field in fields} | {"GOLLAMA_HOME", "GOLLAMA_CONFIG"}


def test_the_image_sets_what_there_is() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"\b(GOLLAMA_\w+)=", text)) <= settings()


# ---- systemd ----


def test_systemd_takes_the_unit_and_finds_it_safe(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    unit = tmp_path / "gollama.service"
    text = (FOLDER / "gollama.service").read_text(encoding="utf-8")
    unit.write_text(text.replace("/opt/gollama/bin/gollama", shutil.which("true") or ""), encoding="utf-8")
    checked = subprocess.run([analyze, "verify", unit], capture_output=True, text=True)
    assert checked.returncode == 0 and "gollama" not in checked.stderr, checked.stderr
    run(analyze, "security", "--offline=true", "--threshold=25", unit)  # of 100


# ---- the chart ----


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for name, value in more.items():
        both[name] = merged(both[name], value) if isinstance(value, Mapping) and isinstance(both.get(name), Mapping) else value
    return both


def rendered(tmp_path: Path, **given: Any) -> dict[str, Any]:
    """What the chart makes of values, by kind; each is checked against the schema of its kind."""
    template = pytest.importorskip("go_template", reason="py-go-template is not installed")
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    (values,) = read_yaml((CHART / "values.yaml").read_text(encoding="utf-8"))
    (chart,) = read_yaml((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    used = merged(values, given)
    context = {"Values": used, "Chart": {name[0].upper() + name[1:]: value for name, value in chart.items()},
               "Release": {"Name": "team", "Namespace": "ai", "Service": "Helm"}}
    check_values(used)
    helpers = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    found = {}
    for file in sorted((CHART / "templates").glob("*.yaml")):
        whole = tmp_path / file.name
        whole.write_text(helpers + file.read_text(encoding="utf-8"), encoding="utf-8")
        for document in read_yaml(template.render(whole, context).decode()):
            found[document["kind"]] = document
            if document["kind"] != "ServiceMonitor":  # which is no kind of Kubernetes' own
                kubernetes.validate(document, KUBERNETES, strict=True)
    return found


def check_values(values: Mapping[str, Any]) -> None:
    """As Helm does. ValidationError."""
    jsonschema.validate(values, json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")), jsonschema.Draft7Validator)


ALL = {"autoscaling": {"enabled": True}, "serviceMonitor": {"enabled": True, "bearerSecret": {"name": "keys", "key": "metrics"}},
       "ingress": {"enabled": True, "className": "nginx"}, "podDisruptionBudget": {"enabled": True}, "existingSecret": "keys",
       "models": {"persistence": {"accessMode": "ReadWriteMany", "storageClass": "fast"}}, "runtimeClassName": "nvidia",
       "image": {"tag": "cuda12-0.1.0"}, "resources": {"limits": {"nvidia.com/gpu": 1}}, "env": [{"name": "HF_TOKEN", "value": "x"}],
       "podAnnotations": {"a": "b"}}


def test_the_chart_makes_what_kubernetes_takes(tmp_path: Path) -> None:
    assert set(rendered(tmp_path)) == {"ConfigMap", "Deployment", "PersistentVolumeClaim", "Service"}


def test_the_chart_makes_it_with_all_that_can_be_switched_on(tmp_path: Path) -> None:
    found = rendered(tmp_path, **ALL)
    assert set(found) == {"ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "PersistentVolumeClaim", "PodDisruptionBudget",
                          "Service", "ServiceMonitor"}
    pod = found["Deployment"]["spec"]["template"]
    assert "replicas" not in found["Deployment"]["spec"] and pod["spec"]["containers"][0]["image"] == "gollama:cuda12-0.1.0"
    for selecting in (found["Service"]["spec"]["selector"], found["ServiceMonitor"]["spec"]["selector"]["matchLabels"],
                      found["Deployment"]["spec"]["selector"]["matchLabels"]):
        assert selecting.items() <= pod["metadata"]["labels"].items()


def test_a_pod_may_do_nothing_but_serve(tmp_path: Path) -> None:
    pod = rendered(tmp_path)["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    probes = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    hosts = ServerConfig(models=["smollm2"], host="0.0.0.0", allowed_hosts=["models.example"]).hosts
    assert all(header["value"] in hosts for name in probes for header in container[name]["httpGet"]["httpHeaders"])


def test_the_server_takes_the_settings_of_the_chart(tmp_path: Path) -> None:
    more = {"models": ["smollm2", "small=gemma3:270m"], "options": {"small": {"context_size": 512}}, "model_ttl": 2.5, "metrics": True,
            "allowed_hosts": ['"quoted"\\']}
    found = rendered(tmp_path, config=more)
    file = tmp_path / "server.toml"
    file.write_text(found["ConfigMap"]["data"]["server.toml"], encoding="utf-8")
    config = read_config({}, file=str(file), environment={})
    assert config.served == {"smollm2": "smollm2", "small": "gemma3:270m"} and config.host == "0.0.0.0"
    assert config.load_options("small").context_size == 512 and config.load_options("smollm2").context_size == 4096
    assert config.model_ttl == 2.5 and config.allowed_hosts == ('"quoted"\\',)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert config.drain_timeout < pod["terminationGracePeriodSeconds"] and pod["containers"][0]["ports"][0]["containerPort"] == config.port


@pytest.mark.parametrize("wrong", [
    {"config": {"models": []}}, {"replicas": 2}, {"service": {"type": "Other"}}, {"image": {"repository": ""}},
])
def test_values_that_are_wrong_are_refused(wrong: dict[str, Any]) -> None:
    (values,) = read_yaml((CHART / "values.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError):
        check_values(merged(values, wrong))


def test_the_chart_is_of_this_version() -> None:
    from gollama.version import __version__

    (chart,) = read_yaml((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__
