"""All checks for a gateway, or for a node."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from orchestrator.doctor.broker import check_broker, check_gateways, check_own_port
from orchestrator.doctor.certificates import CA, check_identity
from orchestrator.doctor.files import check_data, check_private, check_store
from orchestrator.doctor.finding import NOT_CHECKED, OK, Finding, problem_of
from orchestrator.doctor.machine import check_clock, check_disk, check_memory, check_python
from orchestrator.doctor.privacy import check_privacy
from orchestrator.doctor.software import check_confinement, check_mosquitto, check_packages, check_runtime, check_serial
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.pki import read_settings

GATEWAY_DISK_MIB, GATEWAY_MEMORY_MIB = 2048, 2048
"""TensorFlow takes about 1 GiB while a graph is prepared and quantized; a run itself takes 70 MiB."""
NODE_DISK_MIB, NODE_MEMORY_MIB = 512, 150
"""A node takes 58-70 MiB (docs/design.md)."""


@dataclass(frozen=True)
class Question:
    """What to look at. `config`: edgeward.toml. Without `node` this is a gateway."""

    node: bool
    config: Optional[Path]
    state: Path
    broker: Optional[str] = None
    ca_file: Optional[str] = None
    identity: Optional[Path] = None
    data: Optional[Path] = None
    timeout_s: float = 5.0


def examine(question: Question) -> List[Finding]:
    """Raises nothing for a sick machine: what is wrong is a finding."""
    node = question.node
    found = [check_python(not node)]
    found += check_clock(question.state)
    found += check_disk(question.state, NODE_DISK_MIB if node else GATEWAY_DISK_MIB)
    found.append(check_memory(NODE_MEMORY_MIB if node else GATEWAY_MEMORY_MIB))
    found.append(check_store(question.state / ("node.sqlite" if node else "gateway.sqlite")))
    found.append(check_runtime())
    if node:
        found += [check_private(question.state), check_confinement()]
    task, identity, where = None, question.identity, question.broker
    rows: List[Path] = []  # a gateway's own
    host, port, ca_file = "127.0.0.1", 1883, question.ca_file
    if question.config is not None:
        try:
            from orchestrator.gateway.config import load_config

            config = load_config(question.config, files=not node)
            task, host, port = config.task, config.gateway.host, config.gateway.port
            if not node:
                named = [*config.evaluation.values(), *([config.calibration] if config.calibration else [])]
                rows = [question.config.parent / name for name in dict.fromkeys(named)]
                where = where or config.gateway.broker
                ca_file = ca_file or config.gateway.ca_file or None
                given = getattr(config.gateway, "identity", "")
                identity = identity or (question.config.parent / given if given else None)
        except (UsageError, ImportError) as error:
            fix = "pip install tomli" if isinstance(error, ImportError) else f"edit {question.config}"
            found.append(problem_of("config", error, fix))
    if identity is not None:
        found += check_identity(identity)
        if node and where is None and identity.is_dir():
            try:
                where = str(read_settings(identity).get("broker") or "") or None
            except EdgewardError as error:
                found.append(problem_of("certificates", error, "edgeward node enroll"))
    found += _broker(question, where, (host, port), ca_file, identity)
    if not node and task is not None:
        found += check_privacy(task)
    if not node:
        found += check_packages(where in (None, "embedded"))
        found.append(check_mosquitto(where == "mosquitto"))
        found += check_serial()
    if question.data is not None:
        found.append(check_data(question.data, task))
    found += [check_data(path, task) for path in rows]
    return found


def _broker(
    question: Question, where: Optional[str], own: Tuple[str, int], ca_file: Optional[str], identity: Optional[Path]
) -> List[Finding]:
    if where is None:
        return [Finding(NOT_CHECKED, "broker", "none named: give edgeward.toml, or --broker")]
    if where in ("embedded", "mosquitto"):
        return [check_own_port(*own, running=_answers(*own) and (question.state / "gateway.sqlite").is_file())]
    try:
        address = BrokerAddress.parse(where, ca_file)
    except UsageError as error:
        of_authority = ca_file is not None and str(error).startswith(ca_file)
        return [problem_of("broker", error, "--ca-file FILE" if of_authority else "--broker mqtt://HOST[:PORT]")]
    own_files = _own_certificate(identity)
    address = address if own_files is None else address.secured(*own_files)
    found = check_broker(address, question.timeout_s)
    reached = found[0].level == OK
    return [*found, check_gateways(address)] if question.node and reached else found


def _own_certificate(identity: Optional[Path]) -> Optional[Tuple[str, str, str]]:
    """(CA, certificate, key) of the identity folder; None where one is missing, which check_identity reports."""
    if identity is None:
        return None
    for name in ("node", "gateway"):
        files = [identity / file for file in (CA, f"{name}.crt", f"{name}.key")]
        if all(path.is_file() for path in files):
            return str(files[0]), str(files[1]), str(files[2])
    return None


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0
