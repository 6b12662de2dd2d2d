"""`edgeward gateway run`: the orchestrator of one federation, in the foreground."""

import argparse
from pathlib import Path

from orchestrator.cli import logs, service


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    gateway = subparsers.add_parser("gateway", help="run the orchestrator of a federation")
    verbs = gateway.add_subparsers(title="verbs", metavar="VERB", required=True)
    run = verbs.add_parser(
        "run",
        help="run (or continue) the federation of an edgeward.toml",
        description="Waits for the nodes, runs the rounds, quantizes the result and writes a bundle for boards. "
        "A run that was cut off continues when the same command is given again; SIGTERM cuts it off in order, with exit code 0.",
    )
    run.add_argument("config", type=Path, help="edgeward.toml")
    run.add_argument(
        "--out", type=Path, default=Path("out/federation"), help="state and results (default: %(default)s)"
    )
    run.add_argument("--broker", help="embedded, mosquitto, or mqtt://HOST:PORT; instead of the file's")
    run.add_argument("--port", type=int, help="port of an own broker; instead of the file's")
    run.add_argument("--connect-timeout", type=float, default=30.0, metavar="S", help="default: %(default)s")
    run.add_argument(
        "--retrain-on-drift",
        type=float,
        metavar="PSI",
        help="stay, and train again when a board reports a drift index above this (0.25 is usual); needs privacy.runs",
    )
    logs.add_options(run)
    run.add_argument("--json", action="store_true", help="one JSON object a line: progress, then the result")
    run.set_defaults(run=_run)
    service.register(verbs, "gateway")


def _run(arguments: argparse.Namespace) -> int:
    import dataclasses
    import json

    from orchestrator.cli.progress import json_progress, line_progress, logged
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.gateway.config import load_config
    from orchestrator.gateway.federation import run_federation
    from orchestrator.gateway.retraining import run_and_watch

    logs.configure(arguments)
    config = load_config(arguments.config)
    given = {k: getattr(arguments, k) for k in ("broker", "port") if getattr(arguments, k) is not None}
    config = dataclasses.replace(config, gateway=dataclasses.replace(config.gateway, **given))
    progress = logged(json_progress if arguments.json else line_progress)
    where = (config, arguments.config.parent, arguments.out, progress, arguments.connect_timeout)
    drift = arguments.retrain_on_drift
    try:
        with stop_on_sigterm():
            report = run_federation(*where) if drift is None else run_and_watch(*where, drift)
    except Stopped:
        progress({"event": "stopped"})
        return 0
    if arguments.json:
        print(json.dumps({"event": "result", **report}), flush=True)
    else:
        print(f"bundle: {report['bundle']}\nfigures: {arguments.out / 'result.json'}")
    return 0
