"""A new model, or program, to a board while the old one stays in its place: begin, chunks, commit, and what proves it."""

from __future__ import annotations

import logging
import struct
from typing import Any, Callable, Dict, Optional

from model_export.model_bin import HEADER_BYTES, ModelBinError, parse_model_bin
from orchestrator.boards.conversation import BoardError, Conversation, NoAnswerError
from orchestrator.boards.firmware_file import Firmware
from orchestrator.boards.protocol import (
    FRAME_UPDATE_BEGIN,
    FRAME_UPDATE_CHUNK,
    FRAME_UPDATE_COMMIT,
    Record,
    encode_frame,
)
from orchestrator.wire.plain import many

log = logging.getLogger("edgeward.board")

CHUNK_BYTES = 1024
"""A frame is a little longer; two of them fit a board's receive buffer of 4096 bytes."""
_AHEAD = 2
_ATTEMPTS = 6
_STARTS = 3
_RESTART_S = 60.0
_POWER_WAS_CUT = ("power_on", "brown_out")
"""Why a board restarted that says nothing against the program it had on trial."""
_ERASE_S = 60.0
"""A slot of 480 KiB takes a worn flash chip some seconds to erase, the known answers of a large model a few more."""

Progress = Callable[[int, int], None]


def send_model(board: Conversation, model_bin: bytes, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """See BoardClient.update."""
    try:
        packed = parse_model_bin(model_bin)
    except ModelBinError as error:
        raise BoardError(f"{board.port}: this is no model.bin: {error}") from error
    digest = packed.digest
    before = board.info()
    kept = before["model"]
    if before.get("keys") and packed.signature is None:
        raise BoardError(
            f"{board.port}: the board takes signed models only, and {packed.name} is not signed: "
            "`edgeward model sign` does that"
        )
    unproven = before.get("keys") and before.get("signature") != "verified"  # it would be refused at the next start
    if digest != kept or unproven:
        send_whole(board, model_bin, digest, before, progress)
    info = board.info()
    # A model that keeps state answers no test while its stream goes on, which may have begun by itself. The board ran its known
    # answers before it used the model.
    result = {"mismatches": 0, "rows": 0} if info.get("stream") and info.get("state_bytes") else board.selftest()
    if info["model"] != digest or result["mismatches"]:
        raise BoardError(
            f"{board.port}: the board runs {info['model']} after the update to {digest}, "
            f"{result['mismatches']} of {result['rows']} known answers differ"
        )
    return info


def send_firmware(board: Conversation, firmware: Firmware, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """See BoardClient.update_firmware."""
    before = board.info()
    if before["chip"] != firmware.chip:
        raise BoardError(
            f"{board.port}: the program is for {firmware.chip}, the board is {before['chip']}; nothing was sent"
        )
    if not before.get("program_bytes"):
        raise BoardError(
            f"{board.port}: flash has one place for a program: `edgeward flash --everything` once, over the cable"
        )
    if before.get("program") == firmware.digest and not before.get("on_trial"):
        return before
    for left in reversed(range(_STARTS)):
        try:
            _begin(board, firmware.content)
            _send_chunks(board, firmware.content, progress)
            _commit_firmware(board, before["boot"])
            # A program that reaches nobody is not seen before its trial is over.
            info = board.restarted(before["boot"], firmware.trial_s + _RESTART_S)
            if info.get("program") == firmware.digest:
                break
            why = f"it went back to {info.get('program') or 'the program that was flashed'}"
            if info.get("reset") not in _POWER_WAS_CUT:
                raise BoardError(
                    f"{board.port}: {why}: {firmware.version} did not come as far as an answer, or could not run the model"
                )
        except _ForgottenError as error:
            info, why = board.info(), str(error)
            if info["boot"] == before["boot"]:
                raise BoardError(f"{board.port}: update refused: {error}") from error
        if not left:
            raise BoardError(
                f"{board.port}: the board restarted {_STARTS} times during the update: is its supply steady? {why}"
            )
        log.warning("%s: the board restarted during the update, which begins again", board.port)
        before = info
    if info.get("on_trial"):
        raise BoardError(
            f"{board.port}: {firmware.version} runs on trial, and is kept once the board has obeyed an order over its network"
        )
    return info


def _commit_firmware(board: Conversation, boot: str) -> None:
    """The answer may be lost with the connection; where the frame was, the board is still the same boot."""
    answer = _ask(board, FRAME_UPDATE_COMMIT, b"", _ERASE_S, attempts=1)
    if answer is None and board.info()["boot"] == boot:
        answer = _ask(board, FRAME_UPDATE_COMMIT, b"", _ERASE_S, attempts=1)
    if answer is not None:
        _check(board, answer)


class _ForgottenError(BoardError):
    """The board knows nothing of an update that was begun: it restarted."""


def send_whole(
    board: Conversation, model_bin: bytes, digest: str, before: Dict[str, Any], progress: Optional[Progress]
) -> None:
    """Begin, chunks and commit; again from the beginning where the board restarted in between."""
    damaged_before, boot = board.damaged, before["boot"]
    for left in reversed(range(_STARTS)):
        try:
            _begin(board, model_bin)
            _send_chunks(board, model_bin, progress)
            _commit(board, digest, before["model"])
            break
        except _ForgottenError as error:
            now = board.info()
            if now["model"] == digest:  # it restarted when all was done
                break
            if now["boot"] == boot:
                raise BoardError(f"{board.port}: update refused: {error}") from error
            if not left:
                raise BoardError(
                    f"{board.port}: the board restarted {_STARTS} times during the update: is its supply steady? "
                    f"It still runs {now['model']}"
                ) from error
            boot = now["boot"]
            log.warning("%s: the board restarted during the update, which begins again", board.port)
        except NoAnswerError as error:
            noise = board.damaged - damaged_before
            raise NoAnswerError(f"{error}{_noise(noise)}") from error
    noise = board.damaged - damaged_before
    if noise:
        log.warning("%s: the update took longer%s", board.port, _noise(noise))


def _noise(count: int) -> str:
    if not count:
        return ""
    return f"; the line is noisy, {many(count, 'damaged frame')}: try another cable, or a shorter one"


def _begin(board: Conversation, model_bin: bytes) -> None:
    answer = _ask(board, FRAME_UPDATE_BEGIN, model_bin[:HEADER_BYTES], _ERASE_S)
    if answer is None:
        raise _silent(board, "the start of an update")
    _check(board, answer)


def _send_chunks(board: Conversation, model_bin: bytes, progress: Optional[Progress]) -> None:
    offset, attempts = HEADER_BYTES, 0
    while offset < len(model_bin):
        starts = range(offset, min(len(model_bin), offset + _AHEAD * CHUNK_BYTES), CHUNK_BYTES)
        ids = board.new_ids(len(starts))
        frames = [
            encode_frame(FRAME_UPDATE_CHUNK, number, struct.pack("<I", at) + model_bin[at : at + CHUNK_BYTES])
            for number, at in zip(ids, starts)
        ]
        reached = offset
        for answer in board.exchange(frames, ids, "update", board.timeout_s / 2):
            if answer.fields.get("code") != "out_of_order":  # the chunk before it was damaged; both are sent again
                _check(board, answer)
            reached = max(reached, answer.fields["next_offset"])
        attempts = 0 if reached > offset else attempts + 1
        if attempts == _ATTEMPTS:
            raise _silent(board, f"byte {offset} of an update")
        offset = reached
        if progress is not None:
            progress(offset, len(model_bin))


def _commit(board: Conversation, digest: str, kept: Optional[str]) -> None:
    answer = _ask(board, FRAME_UPDATE_COMMIT, b"", _ERASE_S, attempts=1)
    if answer is None or answer.fields.get("code") == "no_update":
        # The frame or its answer was lost. A second commit would be refused if the first was done: look first.
        if board.info()["model"] == digest:
            return
        answer = _ask(board, FRAME_UPDATE_COMMIT, b"", _ERASE_S, attempts=1)
        if answer is None:
            raise _silent(board, f"the end of an update; it had {kept} before")
    _check(board, answer)


def _ask(board: Conversation, frame: int, body: bytes, timeout_s: float, attempts: int = 3) -> Optional[Record]:
    for _ in range(attempts):
        ids = board.new_ids(1)
        for answer in board.exchange([encode_frame(frame, ids.start, body)], ids, "update", timeout_s):
            return answer
    return None


def _check(board: Conversation, answer: Record) -> None:
    state, fields = answer.fields["state"], answer.fields
    if fields.get("code") == "no_update":  # a chunk or a commit is sent only after an update was begun
        raise _ForgottenError(f"no_update: {fields.get('reason')}")
    if state in ("refused", "rolled_back"):
        now = f"; the board still runs {answer.model}" if answer.model else ""
        raise BoardError(f"{board.port}: update {state}: {fields.get('code')}: {fields.get('reason')}{now}")


def _silent(board: Conversation, what: str) -> Exception:
    return NoAnswerError(f"{board.port}: no answer to {what}: is its firmware older than this edgeward?")
