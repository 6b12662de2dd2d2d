"""The demo's processes: one gateway and its nodes, exactly as a user would start them from the command line."""

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

from orchestrator.errors import EdgewardError
from orchestrator.wire.process import own_program

EDGEWARD = own_program("orchestrator.cli.main")


class Federation:
    """`edgeward gateway run` and one `edgeward node run` a data file; all of them end with the `with` block."""

    def __init__(self, config: Path, out: Path, broker: str, federation: str, node_files: Dict[str, Path]) -> None:
        self._config, self._out = config, out
        self._broker, self._federation = broker, federation
        self._node_files = node_files
        self._logs = out / "logs"
        self._processes: Dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> "Federation":
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def events(self) -> Iterator[Dict[str, Any]]:
        """Runs the federation, yielding the gateway's progress; the last one is its `result`."""
        gateway = self._start("gateway", ["gateway", "run", str(self._config), "--out", str(self._out), "--json"])
        assert gateway.stdout is not None
        for line in gateway.stdout:
            event = json.loads(line)
            if event["event"] == "open":
                self._start_nodes()
            self._check_nodes()
            yield event
        if gateway.wait() != 0:
            raise EdgewardError(f"the gateway ended with {gateway.returncode}: {self._tail('gateway')}")

    def _start_nodes(self) -> None:
        for name, data in self._node_files.items():
            arguments = ["node", "run", "--broker", self._broker, "--federation", self._federation, "--once"]
            arguments += ["--name", name, "--data", str(data), "--state", str(self._out / "state" / name)]
            self._start(name, arguments)

    def _start(self, name: str, arguments: List[str]) -> "subprocess.Popen[str]":
        with (self._logs / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                EDGEWARD + arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if name == "gateway" else log,
                stderr=log,
                text=True,
            )
        return self._processes[name]

    def _check_nodes(self) -> None:
        for name, process in self._processes.items():
            if name != "gateway" and process.poll() not in (None, 0):
                raise EdgewardError(f"node {name} ended with {process.returncode}: {self._tail(name)}")

    def _tail(self, name: str) -> str:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-5:]) or "it said nothing"
