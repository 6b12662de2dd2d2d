"""`edgeward demo`: real data through every station, on this machine."""

import argparse
import math
from pathlib import Path

from orchestrator.cli.arguments import whole_within
from orchestrator.cli.commands import COMMANDS

TASK_NAMES = ("breast-cancer", "digits", "heart-disease", "ecg-beats", "regression")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = subparsers.add_parser(
        "demo",
        help=COMMANDS["demo"],
        description="Starts a gateway, nodes and a virtual board as processes on this machine and takes real data "
        "through all of them. Writes report.json, rounds.png and the bundle.",
    )
    demo.add_argument("--task", choices=TASK_NAMES, default=TASK_NAMES[0], help="what to learn (default: %(default)s)")
    demo.add_argument("--data", type=Path, metavar="DIR", help="data folder, for heart-disease and ecg-beats")
    demo.add_argument(
        "--nodes", type=whole_within(1, 100_000), help="hospitals to simulate, one process each (default: 4)"
    )
    demo.add_argument("--rounds", type=whole_within(1, 100_000), help="rounds of training (default: the task's own)")
    demo.add_argument("--epsilon", type=_epsilon, default=8.0, help="privacy budget per record, or 'inf' (default: 8)")
    demo.add_argument(
        "--secure",
        action="store_true",
        help="the gateway sees only sums: masked vectors, and of the noise every node adds a share (one step a round)",
    )
    demo.add_argument("--seed", type=int, default=0, help="of splits and initial weights; noise has none (default: 0)")
    demo.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for all results (default: %(default)s)"
    )
    demo.add_argument(
        "--broker", default="embedded", help="embedded, mosquitto, or mqtt://HOST:PORT (default: %(default)s)"
    )
    demo.add_argument("--json", action="store_true", help="progress and report as one JSON object a line")
    demo.set_defaults(run=_run)


def _epsilon(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number") from error
    if not value > 0 or math.isnan(value):
        raise argparse.ArgumentTypeError(f"{text}: a positive number, or inf for no differential privacy")
    return value


def _run(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.demo.run import run_demo
    from orchestrator.demo.tasks import Request

    request = Request(
        arguments.nodes,
        arguments.rounds,
        arguments.epsilon,
        arguments.seed,
        arguments.data,
        arguments.out,
        arguments.secure,
    )
    report = run_demo(arguments.task, request, arguments.broker, arguments.json)
    if arguments.json:
        print(json.dumps({"event": "report", **report}), flush=True)
    return 0
