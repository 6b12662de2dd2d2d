"""edgeward.toml: one file says everything about a federation. Read whole, every mistake reported at once."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict

from orchestrator.errors import UsageError
from orchestrator.wire.structure import structure
from orchestrator.wire.task import Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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


def load_config(path: Path) -> Config:
    """Raises UsageError naming the file and every mistake in it."""
    try:
        data: Dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    config: Config = structure(data, Config, str(path))
    return config
