"""How commands show a run that goes on for a while: its progress, what stops it in order, and its result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict

if TYPE_CHECKING:
    from orchestrator.gateway.progress import Progress
    from orchestrator.gateway.settings import Config


def run_shown(config: "Config", out: Path, as_json: bool, run: "Callable[[Progress], Dict[str, Any]]") -> int:
    """Runs it, and returns the exit code. run: given where progress goes; returns what `run_federation` does."""
    import json

    from orchestrator.cli.outcome import outcome
    from orchestrator.cli.round_bar import shown
    from orchestrator.cli.stopping import Stopped, stop_on_sigterm
    from orchestrator.cli.tables import say
    from orchestrator.gateway.progress import logged

    with shown(as_json) as show:
        progress = logged(show)
        try:
            with stop_on_sigterm():
                report = run(progress)
        except Stopped:
            progress({"event": "stopped"})
            return 0
    if as_json:
        print(json.dumps({"event": "result", **report}), flush=True)
    else:
        say(outcome(report, out, config.task.schema.classes))
    return 0
