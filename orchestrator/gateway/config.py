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
    """`[gateway]`: where the federation meets."""

    federation: str = "default"  # what nodes name it by (node run --federation) [1 to 64 of a-z, 0-9, '.', '_' and '-']
    # the broker: one the gateway starts, or the address of yours [embedded, mosquitto, mqtt://HOST[:PORT],
    # mqtts://HOST[:PORT]]
    broker: str = "embedded"
    # address the gateway's own broker listens on; beyond loopback use an identity [a host's name or an IP address]
    host: str = "127.0.0.1"
    port: int = 1883  # port of the gateway's own broker; 0 takes a free one [0 to 65535]
    ca_file: str = ""  # certificate (PEM) of the authority of an mqtts:// broker [a file, or empty]
    dashboard: str = ""  # where the web dashboard is served [[HOST:]PORT, or empty for none]
    dashboard_cert: str = ""  # certificate (PEM) that makes the dashboard https [a file, or empty]
    dashboard_key: str = ""  # the key of that certificate (PEM) [a file, or empty]
    # folder of `edgeward gateway init`: TLS, certificates, signed messages [a folder, or empty for none]
    identity: str = ""


@dataclass(frozen=True)
class Config:
    """The whole file. Paths are relative to it. docs/edgeward-reference.md is made of these fields and the comments on them."""

    task: Task  # what is learned; its tables are below [a table]
    gateway: GatewaySettings = field(default_factory=GatewaySettings)  # where the federation meets [a table]
    # data files outside the nodes, by a name for each; without one rounds show no accuracy [name = a file in the schema]
    evaluation: Dict[str, str] = field(default_factory=dict)
    # data file whose inputs set the int8 ranges; without one they are drawn from the released statistics [a file, or empty;
    # signals need one]
    calibration: str = ""
    # whether anyone who has a bundle may know these rows: then their deciles go into it, for drift [true, false]
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
    config, wrong = attempt(_with_unstated(data), Config)
    parts = parts_of_text(data, GatewaySettings) if config is None else parts_of(config)
    _refuse(str(path), [*wrong, *mistakes(parts, path.parent if files else None)])
    assert isinstance(config, Config)
    return config


def _with_unstated(data: Dict[str, Any]) -> Dict[str, Any]:
    """A clip norm that is not stated follows the model's size."""
    task = data.get("task")
    privacy = task.get("privacy", {}) if isinstance(task, dict) else None
    if not isinstance(task, dict) or not isinstance(privacy, dict) or "clip_norm" in privacy:
        return data
    return {**data, "task": {**task, "privacy": {"clip_norm": 0.0, **privacy}}}


def check_config(config: Config, base: Path) -> None:
    """The same checks of a configuration that is not from a file; relative paths start at `base`."""
    _refuse(f"task {config.task.name!r}", mistakes(parts_of(config), base))


def _refuse(where: str, wrong: List[str]) -> None:
    if wrong:
        raise UsageError(f"{where}:\n  " + "\n  ".join(wrong))
