"""Talk to one board over its serial port: what it is, inference row by row, metrics. The same for real and virtual boards."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from orchestrator.boards.conversation import Conversation, NoAnswerError
from orchestrator.boards.firmware_file import Firmware
from orchestrator.boards.protocol import Record
from orchestrator.boards.rows import Inference, run_rows
from orchestrator.boards.stream import send_samples
from orchestrator.boards.update import send_firmware, send_model

_SLOWEST_INFERENCE_S = 8.0


class BoardClient(Conversation):
    """One open port, and all a board can be asked for."""

    _next_sample = 0
    """Number of the next sample of the stream."""

    def metrics(self) -> Dict[str, Any]:
        """The fields of a metrics record: counts, latency percentiles in us, memory in bytes."""
        return self.whole(self.ask("metrics", "metrics"), ("arena_used_bytes", "arena_bytes"))

    def keys(self) -> Dict[str, Any]:
        """`keys`, the ids of the public keys whose signature a model needs (none: any model runs), `program`, the id of the one a
        program over the air needs (empty: it takes none), and `locked`.
        """
        return self.ask("key list", "keys").fields

    def set_key(self, key: bytes) -> Dict[str, Any]:
        """Trust a public key of 32 bytes, too; returns what keys() does. Raises BoardError when the board refuses."""
        return self.ask(f"key set {key.hex()}", "keys").fields

    def set_program_key(self, key: bytes) -> Dict[str, Any]:
        """Trust a public key of 32 bytes with the board's programs, and no other."""
        return self.ask(f"key program {key.hex()}", "keys").fields

    def remove_key(self, key: bytes) -> Dict[str, Any]:
        return self.ask(f"key remove {key.hex()}", "keys").fields

    def lock_keys(self) -> Dict[str, Any]:
        """From now on only flashing changes the keys."""
        return self.ask("key lock", "keys").fields

    def reboot(self) -> Dict[str, Any]:
        """Restarts the board; returns the info of the new boot."""
        return self.restarted(self.ask("reboot", "reboot").boot, self.timeout_s)

    def bench(self, count: int = 10) -> Dict[str, Any]:
        """`count` inferences on the board: `latency_*_us`, `output_crc32`, and `ops`, a list of {name, op, total_us, runs}.

        The operators are timed in a second pass of `count` inferences. On a simulated board (`info()["simulated"]`) these
        are times of the machine that simulates.
        """
        self.info()  # a board that is not there should not be waited for as long as a slow one
        passing: List[Record] = []
        patience_s = self.timeout_s + _SLOWEST_INFERENCE_S * 2 * count
        content = self.ask(f"bench {count}", "bench", attempts=1, timeout_s=patience_s, passing=passing).as_dict()
        content["ops"] = [record.fields for record in passing if record.kind == "op"]
        return content

    def rollback(self) -> Dict[str, Any]:
        """Back to the model in the other slot; returns the board's info. Raises BoardError where there is none to go back to.

        A second rollback goes forward again, so nothing is sent twice: without an answer the board's info decides.
        """
        before = self.info()["model"]
        try:
            self.ask("rollback", "ok", attempts=1)
        except NoAnswerError:
            if self.info()["model"] == before:
                raise
        return self.info()

    def update(self, model_bin: bytes, progress: Optional[Callable[[int, int], None]] = None) -> Dict[str, Any]:
        """Send a model.bin to the slot that is not in use; the board tests it and takes it, or keeps the one it has.

        `progress` gets bytes sent and bytes in all. Returns the board's info, whose `model` is the new digest. Raises
        BoardError with the board's reason when it refuses, and when what runs afterwards does not pass its self-test.
        """
        return send_model(self, model_bin, progress)

    def update_firmware(
        self, firmware: Firmware, progress: Optional[Callable[[int, int], None]] = None
    ) -> Dict[str, Any]:
        """Send a signed program to the place that does not run; the board restarts with it, on trial, and keeps it.

        Returns the board's info, whose `program` is the new digest. Raises BoardError where the board refuses it or has gone
        back to the one before.
        """
        return send_firmware(self, firmware, progress)

    def stream(
        self,
        *,
        counts_per_unit: int = 1,
        hop: int = 0,
        agree: int = 1,
        least_confidence: float = 0.0,
        source: Optional[str] = None,
        rate_hz: int = 125,
    ) -> Dict[str, Any]:
        """Run the model on a stream of samples from now on: a window every `hop` samples (0: windows side by side).

        A class that `agree` windows in a row choose with `least_confidence` or more is a detection, unless the last one
        was the same. Without `source` the samples come from feed(); else from the board: "adc", "imu", "mic", or "file"
        where it is virtual. A model.bin says how samples become inputs; `counts_per_unit` divides them first. Returns
        window_samples, channels and hop_samples.
        """
        where = "" if source is None else f" {source} {rate_hz}"
        least = math.ceil(least_confidence * 256)
        self._next_sample = 0
        return self.ask(f"stream {counts_per_unit} {hop} {agree} {least}{where}", "ok").fields

    def feed(self, samples: np.ndarray) -> List[Record]:
        """Send int16 samples (n, channels), or (n,) for one channel, to the stream; its `detect` and `drift` records."""
        self._next_sample, records = send_samples(self, samples, self._next_sample)
        return records

    def keep_stream(self) -> None:
        """Let the stream that runs from a source of the board begin by itself, with its model, from now on."""
        self.ask("stream keep", "ok")

    def forget_stream(self) -> None:
        """Let no stream begin by itself with this model; one that runs goes on."""
        self.ask("stream forget", "ok")

    def stream_off(self) -> None:
        self.ask("stream off", "ok")

    def infer(self, rows: np.ndarray) -> Inference:
        """Run int8 rows (n, input elements, any shape that flattens to it) on the board.

        Rows are sent ahead within the board's buffer; one whose frame or answer got lost or damaged is sent again.
        A model that keeps state is run from its initial state, the rows following each other in time, so the same rows give
        the same outputs whenever they are asked for; after a loss they all start again.
        Raises BoardError when the board refuses a row, loses its model, stays silent, or has a stream on a model with state.
        """
        return run_rows(self, rows)
