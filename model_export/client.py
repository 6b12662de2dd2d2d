"""Start the worker process from a process that must never import TensorFlow."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from model_export import errors
from model_export.errors import ExportError, WorkerError
from model_export.quiet import ENVIRONMENT

START = (
    "import sys; sys.path[:1] = filter(None, sys.path[:1]); "  # not `python -m`: modules of the working folder come first there
    "from model_export.worker import main; sys.exit(main(sys.argv[1:]))"
)


def run_worker(
    verb: str,
    spec: Mapping[str, Any],
    out_dir: Path,
    progress: Optional[Callable[[str], None]] = None,
    first: Optional[Callable[[], None]] = None,
) -> Dict[str, Any]:
    """Run `prepare` or `bundle` (model_export.worker) and return its result.

    Paths in `spec` must be absolute. `progress` gets each line the worker says, `first` is what its process does first.
    Raises the ExportError the worker met, or one with its last lines if it died.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-") as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(dict(spec)), encoding="utf-8")
        command = [sys.executable, "-c", START, verb, str(path), str(Path(out_dir).resolve())]
        # stdout is one short line, so reading it after stderr has closed cannot block the worker
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, **ENVIRONMENT},
            preexec_fn=first,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said: List[str] = []
        with process:
            for line in process.stderr:
                said.append(line.rstrip())
                if progress is not None and line.startswith("model_export: "):
                    progress(line.rstrip()[len("model_export: ") :])
            answer = process.stdout.read().strip().splitlines()
    try:
        result = json.loads(answer[-1])
    except (IndexError, ValueError):
        raise WorkerError(_no_result(process.returncode, said)) from None
    if "error" in result:
        kind = getattr(errors, result.get("type", ""), ExportError)
        raise kind(result["error"])
    return dict(result)


def _no_result(code: int, said: List[str]) -> str:
    """Of a process that died: by what, and what it said last."""
    tail = "\n".join(said[-15:])
    if code >= 0:
        return f"the export process ended with {code} and no result:\n{tail}"
    name = signal.Signals(-code).name if -code in signal.Signals.__members__.values() else f"signal {-code}"
    cure = (
        "the machine may be short of memory"
        if name == "SIGKILL"
        else "a layer of this model ends TensorFlow's converter"
    )
    return f"the export process was ended by {name}: {cure}. It said last:\n{tail}"
