"""The board at the end of the demo: a virtual one, running the firmware's own sources, fed every test row over serial."""

from pathlib import Path
from typing import Any, Dict

import numpy as np

from orchestrator.boards.client import BoardClient
from orchestrator.boards.virtual import VirtualBoard


def run_board(bundle: Path, evaluation: Path) -> Dict[str, Any]:
    """Runs the gateway's evaluation rows (folder `evaluation`, beside the bundle) on a virtual board.

    Returns {outputs: int8 (rows, classes), report: the `board` part of report.json}.
    """
    rows = np.load(evaluation / "eval_int8_inputs.npy")
    expected = np.load(evaluation / "tflm_outputs.npy")
    with VirtualBoard(bundle / "model.bin") as board, BoardClient(board.port) as client:
        info = client.info()
        result = client.infer(rows)
        metrics = client.metrics()
        stats = client.stats
    outputs = result.outputs.reshape(expected.shape)
    report = {
        "rows": len(rows),
        "mismatches_vs_tflm": int((outputs != expected).any(axis=1).sum()),
        "arena_bytes": metrics["arena_used_bytes"],
        "records": {"received": stats.received, "lost": stats.lost, "corrupt": stats.corrupt},
        "latency_us": {p: float(np.percentile(result.latency_us, int(p[1:]))) for p in ("p50", "p99")},
        "simulated": "virtual board: the firmware built for this host; its latency is this host's, not an ESP32's",
        "engine": info.get("engine"),
        "model_digest": info.get("model"),
    }
    return {"outputs": outputs, "report": report}
