"""One run under faults: 8 nodes, gateway and broker as processes, SIGKILLs by a seeded schedule. Prints a table.

python fault_run.py [--rounds 20] [--seed 1] [--kill-every 2]     a long run by hand; test_fault_table.py does a short one
"""

import argparse
import json
import queue
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from harness import RECORDS, Harness, expected_weights, make_task

NODES = [f"n{i}" for i in range(8)]
STRAGGLER, WRONG_CLOCK = "n6", "n7"
RATE = 0.01
DELAY_S = 0.1
CLOCK_S = -3 * 365 * 86400.0
RECORDS.update({name: 10 + i for i, name in enumerate(NODES)})


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


KILLS_A_ROUND = 6
"""After so many without a round, the next one waits for it: a busy machine starts processes more slowly than they are killed."""


class FaultRun:
    """Runs to the end whatever dies; `table` says what was done and what happened."""

    def __init__(
        self, folder: Path, rounds: int, seed: int, kill_every_s: float, timeout_s: float, delay_s: float = DELAY_S
    ) -> None:
        self.folder, self.rounds, self.seed = folder, rounds, seed
        self.dice = random.Random(seed)
        self.kill_every_s = kill_every_s  # 0: nobody is killed
        self.timeout_s = timeout_s
        self.delay_s = delay_s
        self.kills: Dict[str, int] = {"node": 0, "gateway": 0, "broker": 0}
        self._kinds: List[str] = []  # to be killed next
        self.schedule: List[str] = []
        self.refused = 0
        self.result: Dict[str, Any] = {}
        self.memory: List[Dict[str, float]] = []  # of the gateway and nodes, after each round
        self.ack_log = folder / "acks.jsonl"
        self._nodes: Dict[str, subprocess.Popen[str]] = {}
        self._gateway: Optional[subprocess.Popen[str]] = None
        self._lines: queue.Queue[Optional[Dict[str, Any]]] = queue.Queue()
        self._lives = 0
        self._since_round = 0  # kills

    def run(self) -> None:
        task = make_task(self.rounds, statistics=False, nodes=8, quorum=4, deadline_s=4.0, attempts=50, gather_s=120.0)
        with Harness(self.folder, task) as harness:
            self.harness = harness
            for name in NODES:
                self._start_node(name)
            self._start_gateway()
            deadline = time.monotonic() + self.timeout_s
            next_kill = time.monotonic() + 3 * self.kill_every_s
            while not self.result:
                assert time.monotonic() < deadline, f"not finished after {self.timeout_s} s\n" + "\n".join(
                    self.schedule
                )
                harness.broker.restart_if_dead()
                if self.kill_every_s and time.monotonic() > next_kill and self._since_round < KILLS_A_ROUND:
                    next_kill = time.monotonic() + self.kill_every_s * self.dice.uniform(0.5, 1.5)
                    self._kill(self._next_kind())
                self._take(0.1)
            for process in self._nodes.values():
                try:  # one that waits for the broker may not hear the end
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.terminate()

    def _take(self, timeout_s: float) -> None:
        try:
            event = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return
        if event is None:
            if not self.result:
                assert self._gateway is not None
                self.schedule.append(f"gateway ended with {self._gateway.wait()}; started again")
                self._start_gateway()
        elif event["event"] == "refused":
            self.refused += 1
        elif event["event"] == "weights":
            self.result = event
        elif event["event"] == "failed":
            raise AssertionError(f"the run failed: {event['reason']}")
        elif event["event"] == "aggregated":
            self._since_round = 0
            assert self._gateway is not None
            watched = {"gateway": self._gateway, **self._nodes}
            self.memory.append({name: resident_mib(p.pid) for name, p in watched.items() if p.poll() is None})

    def _next_kind(self) -> str:
        """Every kind within four kills, however few a busy machine has time for."""
        if not self._kinds:
            self._kinds = ["node", "node", "gateway", "broker"]
            self.dice.shuffle(self._kinds)
        return self._kinds.pop()

    def _kill(self, kind: str) -> None:
        self.kills[kind] += 1
        self._since_round += 1
        if kind == "broker":
            assert self.harness.broker.process is not None
            victim: Any = self.harness.broker.process
        elif kind == "gateway":
            victim = self._gateway
        else:
            name = self.dice.choice(NODES)
            victim = self._nodes[name]
        label = name if kind == "node" else kind
        self.schedule.append(f"SIGKILL {label} after round {len(self.memory)}")
        victim.kill()
        victim.wait()
        if kind == "node":
            self._start_node(name)

    def _start_node(self, name: str) -> None:
        self._lives += 1
        data = self.folder / f"{name}.csv"
        data.write_text("x,y\n" + "0.5,1\n" * RECORDS[name])
        delay = 10 * self.delay_s if name == STRAGGLER else self.delay_s
        clock = CLOCK_S if name == WRONG_CLOCK else 0.0
        broker, state = str(self.harness.broker.address), str(self.folder / name)
        life = f"{self.seed}.{self._lives}"
        arguments = [broker, name, str(data), state, delay, life, RATE, clock, str(self.ack_log)]
        self._nodes[name] = self.harness.start_script("faulty_node.py", [str(a) for a in arguments])

    def _start_gateway(self) -> None:
        gateway = self._gateway = self.harness.gateway()

        def read() -> None:
            assert gateway.stdout is not None
            for line in gateway.stdout:
                if line.endswith("\n"):
                    self._lines.put(json.loads(line))
            self._lines.put(None)

        threading.Thread(target=read, daemon=True).start()

    # What must hold afterwards

    def check(self) -> None:
        rounds = self.result["rounds"]
        assert [r["round"] for r in rounds] == list(range(1, self.rounds + 1)), "every round finished"
        cohorts = [r["nodes"] for r in rounds]
        np.testing.assert_array_equal(np.array(self.result["weights"], np.float32), expected_weights(cohorts))
        self.check_acknowledged()

    def acknowledged(self) -> List[Dict[str, Any]]:
        lines = [json.loads(line) for line in self.ack_log.read_text().splitlines()]
        return [line for line in lines if "id" in line]

    def check_acknowledged(self) -> None:
        """Every update acknowledged is in the journal, and with it in its round's cohort; or that closed without it."""
        counted, late = 0, 0
        db = sqlite3.connect(self.harness.store_path)
        journal = [json.loads(row[0]) for row in db.execute("SELECT event FROM events WHERE run = 'run' ORDER BY seq")]
        arrived = {(e["node"], e["digest"]): e["round"] for e in journal if e["event"] == "Arrived"}
        cohorts = {r["round"]: r["nodes"] for r in self.result["rounds"]}
        for line in self.acknowledged():
            number = arrived.get((line["node"], line["id"]))
            if number is None:
                without = f"{line['node']}'s update of round {line['round']} was acknowledged and not kept"
                assert line["node"] not in cohorts[line["round"]], without
                late += 1
                continue
            assert line["node"] in cohorts[number], f"{line['node']}'s update of round {number} was lost"
            counted += 1
        self.counted, self.late = counted, late

    def faults(self) -> Dict[str, int]:
        """Messages damaged, repeated and lost."""
        total = {"damaged": 0, "repeated": 0, "lost": 0}
        for line in self.ack_log.read_text().splitlines():
            kind = json.loads(line).get("fault")
            if kind:
                total[kind] += 1
        return total

    def table(self) -> str:
        sizes = [len(r["nodes"]) for r in self.result["rounds"]]
        with_straggler = sum(STRAGGLER in r["nodes"] for r in self.result["rounds"])
        with_clock = sum(WRONG_CLOCK in r["nodes"] for r in self.result["rounds"])
        faults, total = self.faults(), self.rounds
        rows = [
            ("nodes killed (SIGKILL, started again)", self.kills["node"], "rounds went on, the node came back"),
            ("gateway killed", self.kills["gateway"], "continued from its journal"),
            ("broker killed", self.kills["broker"], "everybody reconnected"),
            ("messages damaged", faults["damaged"], f"{self.refused} refused by the gateway, the others by nodes"),
            ("messages repeated", faults["repeated"], "counted once"),
            ("messages lost", faults["lost"], "sent again"),
            ("straggler, 10x slower", 1, f"in {with_straggler} of {total} rounds"),
            ("clock three years behind", 1, f"in {with_clock} of {total} rounds"),
            (
                "updates acknowledged",
                self.counted + self.late,
                f"{self.counted} counted, {self.late} came late, 0 lost",
            ),
        ]
        head = f"{total} rounds, seed {self.seed}; {min(sizes)} to {max(sizes)} of 8 nodes in a round\n\n"
        lines = [f"| {name} | {count} | {what} |" for name, count, what in rows]
        return head + "\n".join(["| fault | count | what happened |", "|---|---|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill-every", type=float, default=2.0, metavar="SECONDS")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = FaultRun(Path(folder), arguments.rounds, arguments.seed, arguments.kill_every, 60 + 20 * arguments.rounds)
        run.run()
        run.check()
        print("\n".join(run.schedule), file=sys.stderr)
        print(run.table())


if __name__ == "__main__":
    main()
