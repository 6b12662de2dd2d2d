"""edgeward.toml: one file says everything about a federation. Read whole, every mistake reported at once."""

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, List, Mapping

from orchestrator.errors import UsageError
from orchestrator.gateway.checks import mistakes, parts_of, parts_of_text
from orchestrator.wire.structure import attempt
from orchestrator.wire.task import Task
from orchestrator.wire.toml_file import read_toml


@dataclass(frozen=True)
class GatewaySettings:
    """`[gateway]`: where the federation meets. broker: `embedded`, `mosquitto`, or an mqtt(s):// address.

    dashboard: `[HOST:]PORT` of the web dashboard, empty for none; certificate and key (PEM) make it https.
    """

    federation: str = "default"
    broker: str = "embedded"
    host: str = "127.0.0.1"
    port: int = 1883
    ca_file: str = ""
    dashboard: str = ""
    dashboard_cert: str = ""
    dashboard_key: str = ""
    identity: str = ""  # folder of `edgeward gateway init`: TLS, certificates, signed messages


@dataclass(frozen=True)
class Config:
    """The whole file. Paths are relative to it.

    evaluation: group name -> data file outside the nodes, in the task's schema; without it rounds show no accuracy.
    calibration: data file whose inputs set the int8 ranges; without it they are drawn from the federated statistics.
    calibration_public: these rows may be known to anyone who has a bundle, so their deciles go into it, for drift.
    """

    task: Task
    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    evaluation: Dict[str, str] = field(default_factory=dict)
    calibration: str = ""
    calibration_public: bool = False


def load_config(path: Path, given: Mapping[str, Any] = MappingProxyType({}), files: bool = False) -> Config:
    """Raises UsageError naming the file and every mistake that can be known before anything begins.

    given: values of `[gateway]` from elsewhere, such as a command line, instead of the file's. files: also what the named data,
    model, certificates and identity say; only on the machine that is to be the gateway.
    """
    data, _ = read_toml(path)
    gateway = data.get("gateway", {})
    if isinstance(gateway, dict):
        data = {**data, "gateway": {**gateway, **given}}
    config, wrong = attempt(data, Config)
    parts = parts_of_text(data, GatewaySettings) if config is None else parts_of(config)
    _refuse(str(path), [*wrong, *mistakes(parts, path.parent if files else None)])
    assert isinstance(config, Config)
    return config


def check_config(config: Config, base: Path) -> None:
    """The same checks of a configuration that is not from a file; relative paths start at `base`."""
    _refuse(f"task {config.task.name!r}", mistakes(parts_of(config), base))


def _refuse(where: str, wrong: List[str]) -> None:
    if wrong:
        raise UsageError(f"{where}:\n  " + "\n  ".join(wrong))
