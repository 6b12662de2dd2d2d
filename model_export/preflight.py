"""Will this model run on that chip? Everything that can be known on the host, before a board is touched.

Each finding says what was seen and, unless all is well, what to do about it. An `error` means the model cannot run there; a
`warning` means it may not, or not with every build of the firmware.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from model_export.arena32 import Prediction, predict_arena
from model_export.bundle import arena_with_margin
from model_export.chips import CHIPS, MEASURED, ChipMemory, memory_of
from model_export.edges import fold_edges
from model_export.errors import ExportError, TfliteError
from model_export.model_bin import ModelBin, ModelBinError, pack_model_bin, parse_model_bin
from model_export.operators import aliases, supported
from model_export.plan import FREE_BATCH, compile_plan
from model_export.plan_steps import PlanError
from model_export.relu6 import rescaling_relu6
from model_export.signing import key_id, verify_model_bin
from model_export.tflite_file import read_tflite
from model_export.tflite_model import TfliteModel
from model_export.tflm import TflmModel
from model_export.trees import TreesError, is_trees, parse_trees
from model_export.variables import keeps_state, kept_bytes

ONLY_TFLM = frozenset(("SHAPE",))
"""Registered by firmware/engine/tflm, and not in engine/direct."""


def firmware_operators() -> FrozenSet[str]:
    """What firmware/engine/tflm registers: all that engine/direct runs, and more."""
    return supported() | aliases() | ONLY_TFLM


MARGIN = 8
"""An arena that leaves less than this part of what there is may not fit another build of the firmware."""


@dataclass(frozen=True)
class Finding:
    level: str
    """'ok', 'warning' or 'error'."""
    check: str
    message: str
    fix: str = ""


@dataclass
class Preflight:
    chip: str
    memory: Optional[ChipMemory]
    """None of a board on this host, which says itself what it has."""
    findings: List[Finding] = field(default_factory=list)
    prediction: Optional[Prediction] = None
    direct_arena_bytes: int = 0

    @property
    def ok(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)

    def add(self, level: str, check: str, message: str, fix: str = "") -> None:
        self.findings.append(Finding(level, check, message, fix))

    def as_dict(self) -> Dict[str, Any]:
        return {
            "chip": self.chip,
            "ok": self.ok,
            "arena_32bit": None if self.prediction is None else asdict(self.prediction),
            "direct_arena_bytes": self.direct_arena_bytes,
            "findings": [asdict(finding) for finding in self.findings],
        }


class Board(NamedTuple):
    """What a board says of itself."""

    engine: str
    arena_bytes: int


def preflight(
    content: bytes,
    chip: str,
    slot_bytes: int,
    public_key: Optional[Ed25519PublicKey] = None,
    board: Optional[Board] = None,
    parts: Sequence[str] = (),
) -> Preflight:
    """Check a .tflite or a model.bin for `chip` (a key of CHIPS) and a model slot of `slot_bytes`.

    `parts`: keys of chips.HEAP_OF, what the firmware is built with.

    With `public_key` the signature of a model.bin has to be of that key. With `board` its own figures take the chip's place.

    What is wrong with the model becomes findings. Raises ExportError only for a model.bin that is damaged.
    """
    report = Preflight(chip, memory_of(chip, parts) if chip in CHIPS else None)
    packed = parse_model_bin(content) if content[:4] == b"EWMB" else None
    tflite = content if packed is None else packed.tflite
    if packed is not None and is_trees(tflite):
        _trees(report, tflite, packed, len(content), slot_bytes, board)
        _signature(report, packed, content, public_key)
        return report
    try:
        tflite, edges = fold_edges(tflite)
        model = read_tflite(tflite)
    except TfliteError as error:
        report.add("error", "file", str(error), "export the model again: this is no usable .tflite")
        return report
    if edges:
        report.add("ok", "edges", f"{' and '.join(edges)}: int8 once it is exported")
    runs = _operators(report, model)
    _state(report, model)
    measured = _load(report, tflite) if runs else None
    _direct(report, tflite, packed)
    if measured is not None:
        _arena(report, tflite, measured, packed, board)
        _flash(report, tflite, measured, packed, len(content), slot_bytes)
    _signature(report, packed, content, public_key)
    _known_bad(report, model)
    return report


def _trees(
    report: Preflight, blob: bytes, packed: ModelBin, size: int, slot_bytes: int, board: Optional[Board]
) -> None:
    """Every firmware of this version has engine/trees, whose memory is known exactly."""
    try:
        model = parse_trees(blob)
    except TreesError as error:
        report.add("error", "file", str(error), "export the bundle again")
        return
    report.direct_arena_bytes = model.arena_bytes
    report.add(
        "ok", "trees", f"{len(model.trees)} trees of {model.nodes:,} nodes: any firmware of this version runs them"
    )
    if board is not None:
        there, whose = board.arena_bytes, f"this board's firmware has {board.arena_bytes:,}"
    else:
        there = _memory_there(report).arena_bytes
        whose = f"the firmware has about {there:,} on {report.chip}"
    level = "ok" if packed.arena_direct_bytes <= there else "error"
    fix = "" if level == "ok" else "fewer inputs"
    report.add(level, "arena", f"needs {packed.arena_direct_bytes:,} bytes (exact); {whose}", fix)
    _slot(report, "model.bin has", size, slot_bytes, "fewer trees, or less depth")


def _operators(report: Preflight, model: TfliteModel) -> bool:
    used = sorted({op.code for graph in model.subgraphs for op in graph.ops})
    missing = [code for code in used if code not in firmware_operators()]
    for code in missing:
        report.add("error", "operators", f"the firmware's TFLM has no {code}", operator_fix(code, used))
    if not missing:
        report.add("ok", "operators", f"{', '.join(used)}: all in the firmware")
    return not missing


def _state(report: Preflight, model: TfliteModel) -> None:
    if not keeps_state(model) and len(model.subgraphs) == 1:
        return
    try:
        kept = kept_bytes(model)
    except TfliteError as error:
        report.add("error", "state", str(error), "export the model again with its initial values as constants")
        return
    report.add("ok", "state", f"keeps {kept:,} bytes from one inference to the next; they are part of the arena")


def operator_fix(code: str, used: List[str]) -> str:
    if code in FREE_BATCH and "SHAPE" in used:
        return "it comes from a free batch size: give the Keras input batch_size=1 and export again"
    if code in ("QUANTIZE", "DEQUANTIZE"):
        return "convert with inference_input_type and inference_output_type int8"
    if code.startswith("CUSTOM"):
        return "replace the layer: custom operators have no kernel on boards"
    return (
        "replace the layer it comes from; or, if esp-tflite-micro has a kernel, add it to register_operators() in "
        "firmware/engine/tflm/engine_tflm.cpp and raise kOperators"
    )


def _load(report: Preflight, tflite: bytes) -> Optional[TflmModel]:
    try:
        return TflmModel(tflite)
    except ExportError as error:
        report.add("error", "load", str(error), "export it as a full int8 model with one input and one output, batch 1")
        return None


def _direct(report: Preflight, tflite: bytes, packed: Optional[ModelBin]) -> None:
    if packed is not None and packed.plan is None:
        fix = "build the firmware with engine/tflm, or export the bundle for both engines"
        report.add("warning", "engine/direct", "model.bin carries no plan for it", fix)
        return
    try:
        plan = compile_plan(tflite)
    except PlanError as error:
        report.add("warning", "engine/direct", str(error), "build the firmware with engine/tflm for this model")
        return
    report.direct_arena_bytes = plan.arena_bytes
    report.add("ok", "engine/direct", f"runs it in {plan.arena_bytes:,} bytes of arena (exact)")


def _arena(
    report: Preflight, tflite: bytes, measured: TflmModel, packed: Optional[ModelBin], board: Optional[Board]
) -> None:
    prediction = report.prediction = predict_arena(tflite, measured)
    asked = arena_with_margin(measured.arena.total) if packed is None else packed.arena_tflm_bytes
    kind = "predicted" if prediction.confirmed else "predicted at most"
    text = f"TFLM needs {prediction.total_bytes:,} bytes on 32 bit ({kind}), the header asks for {asked:,}"
    if asked < prediction.total_bytes:
        fix = "export the bundle again: the header must ask for at least what TFLM needs"
        report.add("error", "arena", text, fix)
    elif board is not None:
        _arena_of_board(report, asked, text, board)
    else:
        _arena_of_chip(report, _memory_there(report), asked, text)
    if prediction.unknown_operators:
        names = ", ".join(prediction.unknown_operators)
        report.add("warning", "arena", f"the structs of {names} are not known", "read arena_used_bytes on the board")


_SMALLER = "reduce the largest activations (stride earlier, fewer channels in the first layers)"


def _memory_there(report: Preflight) -> ChipMemory:
    """Raises ExportError for a chip whose memory nobody has listed."""
    if report.memory is None:
        raise ExportError(f"nobody has listed the memory of {report.chip}: ask a board with it")
    return report.memory


def _arena_of_board(report: Preflight, asked: int, text: str, board: Board) -> None:
    direct = report.direct_arena_bytes
    if board.engine == "direct":
        asked, text = direct, f"engine/direct needs {direct:,} bytes"
        if not direct:
            report.add(
                "error", "arena", "the board has engine/direct, which cannot run this model", "flash engine/tflm"
            )
            return
    there = f"{text}; this board's firmware has {board.arena_bytes:,}"
    if asked > board.arena_bytes:
        report.add("error", "arena", there, _SMALLER + _or_direct(direct, board.arena_bytes))
    else:
        report.add("ok", "arena", there)


def _arena_of_chip(report: Preflight, memory: ChipMemory, asked: int, text: str) -> None:
    direct = report.direct_arena_bytes
    there = f"{text}; the firmware has about {memory.arena_bytes:,} for it on {report.chip} ({memory.basis})"
    fix = _SMALLER + _or_direct(direct, memory.arena_bytes)
    least = min(asked, direct or asked)
    hopeless = least > memory.data_bytes or (memory.basis == MEASURED and least > memory.arena_bytes)
    if hopeless:
        report.add("error", "arena", there + ("" if least == asked else f", and engine/direct needs {direct:,}"), fix)
    elif asked > memory.arena_bytes:
        report.add("warning", "arena", there, fix)
    elif asked > memory.arena_bytes - memory.arena_bytes // MARGIN:
        spare = f"{there}; less than an eighth of it is to spare, and other builds have other figures"
        report.add("warning", "arena", spare, "ask the board: --port")
    else:
        report.add("ok", "arena", there)


def _or_direct(direct: int, there: int) -> str:
    return f", or build with engine/direct: {direct:,} bytes" if 0 < direct <= there else ""


def _flash(
    report: Preflight, tflite: bytes, measured: TflmModel, packed: Optional[ModelBin], size: int, slot_bytes: int
) -> None:
    if packed is None:
        try:
            plan = compile_plan(tflite)
        except PlanError:
            size = len(pack_model_bin(name="model", tflite=tflite, arena_tflm_bytes=measured.arena.total))
        else:
            blob = pack_model_bin(
                name="model",
                tflite=tflite,
                plan=plan.blob,
                arena_tflm_bytes=measured.arena.total,
                arena_direct_bytes=plan.arena_bytes,
            )
            size = len(blob)
    what = "model.bin has" if packed is not None else "as model.bin without known answers it has"
    _slot(report, what, size, slot_bytes, "fewer weights")


def _slot(report: Preflight, what: str, size: int, slot_bytes: int, fix: str) -> None:
    if size > slot_bytes:
        report.add(
            "error",
            "flash",
            f"{what} {size:,} bytes, a model slot {slot_bytes:,}",
            f"{fix}; or larger slots in partitions.csv and orchestrator/boards/partitions.py, and --everything",
        )
    else:
        report.add("ok", "flash", f"{what} {size:,} of a slot's {slot_bytes:,} bytes")


def _signature(
    report: Preflight, packed: Optional[ModelBin], content: bytes, public_key: Optional[Ed25519PublicKey]
) -> None:
    if packed is not None and public_key is not None:
        try:
            verify_model_bin(content, public_key)
        except ModelBinError as error:
            report.add("error", "signature", str(error), "sign it with that key: `edgeward model sign`")
        else:
            report.add("ok", "signature", f"{packed.name} is signed by key {key_id(public_key)}")
    elif packed is None:
        report.add(
            "warning", "signature", "a bare .tflite carries none", "export a bundle with `edgeward model export`"
        )
    elif packed.signature is None:
        fix = "`edgeward model sign`; only a board without keys takes it as it is"
        report.add("warning", "signature", f"{packed.name} is not signed", fix)
    else:
        report.add("ok", "signature", f"{packed.name} is signed (Ed25519; not verified without --key)")
    if packed is not None and packed.known_answers is None:
        fix = "export it again: without them a board cannot check itself"
        report.add("warning", "known answers", "there are none", fix)


def _known_bad(report: Preflight, model: TfliteModel) -> None:
    rescaling = rescaling_relu6(model)
    if rescaling:
        report.add(
            "warning",
            "RELU6",
            f"RELU6 that changes the scale (operators {_list(rescaling)}): TFLM leaves the values as they are, and they come out "
            "wrong",
            "`edgeward model export` writes RELU in its place where 127 stands for 6 or less",
        )
    dense = [op for op in model.ops if op.code == "FULLY_CONNECTED" and len(op.inputs) > 1 and op.inputs[1] >= 0]
    per_tensor = [op.index for op in dense if len(model.tensors[op.inputs[1]].scales) == 1]
    uneven = [
        op.index
        for op in dense
        if len(model.tensors[op.inputs[1]].scales) > 1 and model.tensors[op.inputs[1]].shape[0] % 8
    ]
    chip = CHIPS.get(report.chip)  # none of a board on this host
    if chip is not None and chip.dense_by_eights and uneven:
        report.add(
            "warning",
            "esp-nn#34",
            f"dense layers with a scale per channel and outputs no multiple of 8 (operators {_list(uneven)}): "
            f"esp-nn's kernel for {report.chip} computes them wrong",
            "keep CONFIG_NN_ANSI_C, which this firmware sets; or make the outputs a multiple of 8; or use "
            "engine/direct",
        )
    if len(per_tensor) > 1:
        report.add(
            "warning",
            "rounding",
            f"dense layers with one scale (operators {_list(per_tensor)}): esp-tflite-micro 1.4.0 multiplies their scales "
            "in single precision, so a known answer may differ by one step",
            "quantize dense layers per channel, or use engine/direct",
        )


def _list(numbers: List[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:6])
    return shown + (", ..." if len(numbers) > 6 else "")
