"""What must be installed: the runtime, a gateway's packages, tools for boards, mosquitto; and whether it works."""

import importlib.util
import os
import shutil
import subprocess
from typing import List

from orchestrator.doctor.finding import NOT_CHECKED, OK, PROBLEM, WARNING, Finding
from orchestrator.errors import EdgewardError
from orchestrator.wire.process import own_program

_GATEWAY = ("tensorflow", "tflite_micro", "dp_accounting")
_SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def check_runtime() -> Finding:
    """Runs a tiny graph in a process of its own: a runtime built for another processor ends it with a signal."""
    command = own_program("orchestrator.doctor.tiny_graph")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return Finding(
            PROBLEM, "runtime", "a graph of one addition does not end", "pip install --force-reinstall 'edgeward[node]'"
        )
    if done.returncode == 0:
        return Finding(OK, "runtime", f"{done.stdout.strip()} runs a graph")
    last = (done.stderr.strip().splitlines() or ["no word"])[-1]
    how = f"signal {-done.returncode}" if done.returncode < 0 else last
    return Finding(PROBLEM, "runtime", f"no TensorFlow Lite runtime that works: {how}", "pip install 'edgeward[node]'")


def check_confinement() -> Finding:
    """Starts the process a node runs a gateway's graphs in, and asks what the kernel lets it give up."""
    from orchestrator.node.confine import NOTHING, SECCOMP
    from orchestrator.node.graph_process import WEAK, confinement_here

    try:
        confined = confinement_here()
    except EdgewardError as error:
        return Finding(PROBLEM, "graphs", str(error), "pip install --force-reinstall 'edgeward[node]'")
    if confined == SECCOMP:
        return Finding(OK, "graphs", "run in a process that can only compute: system calls are filtered")
    fix = (
        "a kernel with CONFIG_SECCOMP_FILTER on x86-64 or 64-bit ARM; in a container, one whose profile allows seccomp"
    )
    return Finding(WARNING, "graphs", f"run in a process that {WEAK.get(confined, WEAK[NOTHING])}", fix)


def check_packages(embedded_broker: bool) -> List[Finding]:
    """A gateway's packages; found, not imported: TensorFlow alone would take seconds."""
    wanted = (*_GATEWAY, "amqtt") if embedded_broker else _GATEWAY
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        return [Finding(PROBLEM, "packages", f"not installed: {', '.join(missing)}", "pip install 'edgeward[gateway]'")]
    return [Finding(OK, "packages", f"{', '.join(wanted)} are installed")]


def check_mosquitto(needed: bool) -> Finding:
    path = shutil.which("mosquitto", path=_SBIN)
    if path is None:
        level = PROBLEM if needed else NOT_CHECKED
        return Finding(
            level,
            "mosquitto",
            "not installed" + ("" if needed else ", and not asked for"),
            "apt install mosquitto" * needed,
        )
    done = subprocess.run([path, "-h"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    return Finding(OK, "mosquitto", f"{(done.stdout.splitlines() or ['?'])[0]} at {path}")


def check_serial() -> List[Finding]:
    """Serial ports of boards, and the tools that flash them."""
    if importlib.util.find_spec("serial") is None:
        return [Finding(NOT_CHECKED, "boards", "pyserial is not installed; without it no board can be used here")]
    from serial.tools.list_ports import comports

    devices = [port.device for port in comports()]
    found = [check_port(device) for device in devices]
    if not devices:
        found.append(Finding(NOT_CHECKED, "boards", "no serial port: no board is plugged in"))
    for name in ("esptool", "platformio"):
        if importlib.util.find_spec(name) is None:
            found.append(
                Finding(
                    WARNING,
                    "boards",
                    f"{name} is not installed; it is needed to flash",
                    "pip install 'edgeward[boards]'",
                )
            )
        else:
            found.append(Finding(OK, "boards", f"{name} is installed"))
    return found


def check_port(device: str) -> Finding:
    """Whether this user may open a serial port; it is not opened, which could reset a board."""
    import grp

    if os.access(device, os.R_OK | os.W_OK):
        return Finding(OK, "boards", f"{device}: may be opened")
    try:
        group = grp.getgrgid(os.stat(device).st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    group = "dialout" if group == "root" else group
    return Finding(
        PROBLEM, "boards", f"{device}: this user may not open it", f"sudo usermod -aG {group} $USER, then log in again"
    )
