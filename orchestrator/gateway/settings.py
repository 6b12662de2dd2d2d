"""What edgeward.toml can say, as data. docs/edgeward-reference.md is made of these fields and the comments on them."""

from dataclasses import dataclass, field
from typing import Dict, Tuple

from orchestrator.wire.task import Task


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
    # minutes the dashboard stays after the run, or after a gateway that was killed; 0 ends it with its gateway [0 to 10080]
    dashboard_minutes: float = 15.0
    # folder of `edgeward gateway init`: TLS, certificates, signed messages [a folder, or empty for none]
    identity: str = ""
    # of analyses without noise: counts of 1 to one less than this are not in the tables, nor what they follow from; 0 shows all
    # [0 to 1000000]
    minimum_cell: int = 0
    # nodes that are asked, even where more are here; without one all nodes of the federation are [names of nodes]
    sites: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """The whole file. Paths are relative to it."""

    task: Task  # what is learned; its tables are below [a table]
    gateway: GatewaySettings = field(default_factory=GatewaySettings)  # where the federation meets [a table]
    # data files outside the nodes, by a name for each; without one rounds show no accuracy [name = a file in the schema]
    evaluation: Dict[str, str] = field(default_factory=dict)
    # data file whose inputs set the int8 ranges; without one they are drawn from the released statistics [a file, or empty;
    # signals need one]
    calibration: str = ""
    # whether anyone who has a bundle may know these rows: then their deciles go into it, for drift [true, false]
    calibration_public: bool = False
