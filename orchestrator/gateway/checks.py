"""What can be known of a federation before it begins: from the text of its edgeward.toml, and from the files that it names.

Everything is looked at and every mistake is a line, so that nothing is found after nodes have spent their budget. A table that
is broken by itself is left out here: it has its own lines.
"""

import re
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

from model_export.errors import ExportError
from model_export.keras_file import check_keras_file, in_float32
from model_export.model_bin import ModelBinError, check_model_name
from model_export.models import check_spec
from orchestrator.analyses.registry import contradictions, make
from orchestrator.data.cells import canonical
from orchestrator.data.dataset import load_dataset
from orchestrator.errors import EdgewardError, PrivacyError, UsageError
from orchestrator.gateway.broker import KINDS
from orchestrator.gateway.config_parts import Parts
from orchestrator.gateway.run import neighbour_objections, strategy_objections
from orchestrator.gateway.settings import GatewaySettings
from orchestrator.gateway.training_checks import (
    figure_mistakes,
    noise_mistakes,
    number_mistakes,
    personal_mistakes,
    steering_mistakes,
    threshold_mistakes,
)
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.node.graph_check import MAX_TENSOR_BYTES
from orchestrator.privacy.vector_layout import Part, bits_for
from orchestrator.rounds.stages import ANALYSIS
from orchestrator.wire.bounds import count, host_name, near, twice, within
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.pem import authorities
from orchestrator.wire.plain import many
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.topics import check_name

MAX_PARAMETERS = MAX_TENSOR_BYTES // 4
"""The weights travel, and are computed with, as one float32 tensor; nodes accept none that is larger."""

MAX_INPUTS = 1 << 22
"""Values of one record: 16 MiB."""

LARGEST = 1e30
"""Of a range or a scale: beyond it float32, in which nodes compute, has squares that are infinite."""

LEAST_SPAN = 1e-20
"""Of a range: float32 divides by small parts of it."""

FEW_ROWS = 20
"""Lines of mistakes of one kind that are shown."""


def misfit(path: Path, schema: Schema) -> str:
    """Why a file has no rows of this schema; empty where it has."""
    try:
        load_dataset(path, schema)
    except EdgewardError as error:
        return str(error)
    return ""


def mistakes(parts: Parts, base: Optional[Path] = None, unlike: Callable[[Path, Schema], str] = misfit) -> List[str]:
    """Everything wrong with a federation that its text tells; with `base`, also what the files it names tell.

    unlike: why a file has no rows of the schema, for who asks it many times.
    """
    found = list(_gateway(parts.gateway, base)) if parts.gateway is not None else []
    if parts.gateway is not None and parts.rounds is not None and 0 < len(parts.gateway.sites) < parts.rounds.nodes:
        few = len(parts.gateway.sites)
        found.append(
            f"gateway.sites: {few} of them, and task.rounds.nodes wants {parts.rounds.nodes}: name more, or want fewer"
        )
    if parts.name is not None:
        try:
            check_model_name(parts.name)  # that of the model on a board
        except ModelBinError as error:
            found.append(f"task.name: {error}")
    if parts.schema is not None:
        found += [f"task.schema.{line}" for line in _schema(parts.schema)]
        found += threshold_mistakes(parts)
    if parts.analysis:
        found += _analysis(parts)
    elif parts.model is not None:
        found += [_of_model(line) for line in _model(parts.model, parts.schema, base)]
    if parts.rounds is not None and parts.rounds.provided:
        found.append("task.rounds.provided: set by `edgeward gateway relay` alone; take it out")
    if parts.aggregation is not None and parts.aggregation.key_holder:
        try:
            check_name(parts.aggregation.key_holder, "key_holder")
        except UsageError as error:
            found.append(f"task.aggregation.{error}")
    found += noise_mistakes(parts)
    if parts.training is not None:
        found += [f"task.training.{line}" for line in number_mistakes(parts.training)]
        found += figure_mistakes(parts, parts.training)
        found += steering_mistakes(parts, parts.training)
        found += personal_mistakes(parts, parts.training)
    if parts.training is not None and parts.rounds is not None and parts.selection is not None:
        secure = parts.aggregation is not None and parts.aggregation.secure
        reasons = strategy_objections(parts.training, parts.rounds, parts.selection, secure)
        found += [_of_strategy(line) for line in reasons]
    if parts.aggregation is not None and parts.rounds is not None and parts.selection is not None:
        reasons = neighbour_objections(parts.aggregation, parts.rounds, parts.selection)
        found += [f"task.aggregation.neighbours: {line}" for line in reasons]
    found += _rows(parts, base, unlike)
    return found


def _of_strategy(line: str) -> str:
    """With the key that it is about."""
    option = re.search(r"\boption '(\w+)'", line)
    if option:
        return f"task.training.options.{option.group(1)}: {line}"
    return f"task.training.{line}" if line.startswith("strategy ") else f"task.training.strategy: {line}"


def _analysis(parts: Parts) -> Iterator[str]:
    if parts.schema is not None:
        try:
            analysis = make(parts.analysis, parts.schema)
        except UsageError as error:
            yield from (f"task.analysis.{line}" for line in str(error).split("\n"))
        else:
            if parts.training is not None and parts.privacy is not None:
                yield from (
                    f"task.{line}" for line in contradictions(analysis, parts.training, parts.privacy, parts.rounds)
                )
    yield from _room(parts)
    rows = {"evaluation": parts.evaluation, "calibration": parts.calibration}
    for name, given in {**rows, "calibration_public": parts.calibration_public}.items():
        if given:
            yield f"{name}: rows of the gateway's, of which an analysis has no use: leave it out"


def _room(parts: Parts) -> Iterator[str]:
    """Whether an exact sum of so many nodes fits into a secure one."""
    privacy, aggregation, rounds = parts.privacy, parts.aggregation, parts.rounds
    if privacy is None or privacy.on or aggregation is None or not aggregation.secure or rounds is None:
        return
    try:
        bits_for([Part(ANALYSIS, 1, False, exact=True)], rounds.nodes, rounds.nodes, aggregation.bits)
    except PrivacyError as error:
        yield f"task.aggregation.bits: {error}"


def _sites(gateway: GatewaySettings) -> Iterator[str]:
    for name in gateway.sites:
        try:
            check_name(name, "node")
        except UsageError as error:
            yield f"gateway.sites: {error}"
    yield from twice("gateway.sites", gateway.sites)


def _gateway(gateway: GatewaySettings, base: Optional[Path]) -> Iterator[str]:
    try:
        check_name(gateway.federation, "federation")
    except UsageError as error:
        yield f"gateway.{error}"
    if gateway.broker not in KINDS:
        yield from _broker(gateway.broker)
    yield from _sites(gateway)
    yield from (f"gateway.{line}" for line in within("port", gateway.port, 0, 65535))
    yield from (f"gateway.{line}" for line in count("minimum_cell", gateway.minimum_cell, 0, 1_000_000))
    yield from (f"gateway.{line}" for line in within("dashboard_minutes", gateway.dashboard_minutes, 0, 10080))
    yield from host_name("gateway.host", gateway.host)
    if gateway.identity and gateway.broker == "embedded":
        yield (
            "gateway.identity: the embedded broker cannot check certificates and rights by name; with an identity use "
            'broker = "mosquitto", or one of your own set up with `edgeward gateway broker-config`'
        )
    files = [(name, getattr(gateway, name)) for name in ("dashboard_cert", "dashboard_key") if getattr(gateway, name)]
    if gateway.dashboard:
        try:
            web = WebSettings.parse(gateway.dashboard, *(Path(n) if n else None for n in _certificate(gateway)))
            if gateway.broker in KINDS and gateway.port and gateway.port == web.port:
                yield f"gateway.dashboard: port {web.port} is that of the broker (gateway.port); choose another one"
        except UsageError as error:
            yield f"gateway.dashboard: {error}"
    for name, _ in [] if gateway.dashboard else files:
        yield f"gateway.{name}: is for the dashboard, and none is asked for: name a port, gateway.dashboard or --dashboard"
    if base is None:
        return
    for name, given in files:
        if not (base / given).is_file():
            yield f"gateway.{name}: {base / given}: no such file"
    if gateway.ca_file and not Path(gateway.ca_file).is_file():
        yield f"gateway.ca_file: {gateway.ca_file}: no such file"
    elif gateway.ca_file:
        yield from _authorities(Path(gateway.ca_file))
    if gateway.identity and not (base / gateway.identity).is_dir():
        yield f"gateway.identity: {base / gateway.identity}: no such folder; `edgeward gateway init` makes one"


def _certificate(gateway: GatewaySettings) -> List[str]:
    return [gateway.dashboard_cert, gateway.dashboard_key]


def _broker(broker: str) -> Iterator[str]:
    if "://" not in broker:
        yield (
            f"gateway.broker {broker!r}: expected one of {', '.join(KINDS)}, or mqtt://HOST[:PORT]{near(broker, KINDS)}"
        )
        return
    try:
        BrokerAddress.parse(broker)
    except UsageError as error:
        yield f"gateway.{error}"


def _authorities(ca_file: Path) -> Iterator[str]:
    try:
        authorities(ca_file)
    except UsageError as error:
        yield f"gateway.ca_file: {error}"


def _schema(schema: Schema) -> Iterator[str]:
    if schema.labelled and not schema.target:
        yield from _classes(schema)
    if schema.kind == "signal":
        yield from _signal(schema)
        return
    yield from _spaces(schema)
    if schema.samples:
        yield "samples: of signals, and this schema is of a table"
    for number, feature in enumerate(schema.features):
        yield from (f"features[{number}]: {line}" for line in _feature(feature, schema))
    yield from twice("columns", schema.columns)
    yield from within("features", schema.input_shape[0], 1, MAX_INPUTS, f"at most {MAX_INPUTS} inputs")
    if schema.patient and schema.patient in schema.learned.columns:
        yield f"patient: {schema.patient!r} is the label"


def _classes(schema: Schema) -> Iterator[str]:
    twice = _repeated(schema.classes)
    if twice:
        yield f"classes: {', '.join(twice)} twice; each class has a name of its own"
    padded = [repr(name) for name in schema.classes if not name or name != name.strip()]
    if padded:
        yield f"classes: {', '.join(padded[:FEW_ROWS])}: a class's name is not empty and has no spaces around it"
    unreached = [name for i, name in enumerate(schema.classes) if i not in schema.label_values.values()]
    if unreached:
        yield (
            f"label_values: no value stands for {', '.join(unreached[:FEW_ROWS])}, so no record can be of that class: give one, "
            "or leave the class out"
        )
    same = _repeated([canonical(value) for value in schema.label_values])
    if same:
        yield f"label_values: {', '.join(same)} is there twice (1, 1.0 and 01 are the same value)"
    lost = sorted(set(schema.label_values) & set(schema.missing_markers))
    if lost:
        yield f"label_values: {', '.join(map(repr, lost))} also stands for a missing value (missing_markers)"
    if not schema.label.strip():
        yield "label: empty; it names the column with what is to be learned"


def _spaces(schema: Schema) -> Iterator[str]:
    """Names and values that no table has: what stands around its cells is not read."""
    named = {
        "label": schema.learned.columns,
        "patient": (schema.patient,),
        "columns": schema.columns,
        "label_values": schema.label_values,
        "missing_markers": schema.missing_markers,
        **{f"features[{number}].categories": feature.categories for number, feature in enumerate(schema.features)},
    }
    for place, texts in named.items():
        padded = [repr(text) for text in texts if text != text.strip()]
        if padded:
            yield f"{place}: {', '.join(padded[:FEW_ROWS])}: cells are read without the spaces around them, so take them out"


def distinguishable(low: float, high: float) -> bool:
    """Whether float32, in which nodes compute, tells the ends of a range well apart and can square them."""
    largest = max(abs(low), abs(high))
    return largest <= LARGEST and high - low > max(LEAST_SPAN, 1e-6 * largest)


def _feature(feature: Feature, schema: Schema) -> Iterator[str]:
    if not feature.name or feature.name != feature.name.strip():
        yield f"name {feature.name!r}: a column's name is not empty and has no spaces around it"
    if feature.name in schema.learned.columns:
        yield f"{feature.name!r} is the label: a model that reads its answer learns nothing else"
    if schema.patient and feature.name == schema.patient:
        yield f"{feature.name!r} says whose record it is (patient): it is no input"
    if len(feature.categories) == 1:
        yield f"{feature.name!r}: one category, so its value says nothing: list all, or leave the column out"
    same = _repeated([canonical(value) for value in feature.categories])
    if same:
        yield f"{feature.name!r}: category {', '.join(same)} is there twice (1, 1.0 and 01 are the same value)"
    if not feature.categories:
        low, high = feature.range
        if not distinguishable(low, high) or not distinguishable(*feature.scaled_range):
            yield (
                f"{feature.name!r}: minimum {low:g} and maximum {high:g} are too near, or cannot be squared, in float32: choose "
                "a range nearer to what the values can be"
            )


def _signal(schema: Schema) -> Iterator[str]:
    if schema.features or schema.columns:
        yield "features: of a table, and this schema is of signals: samples and channels say what x is"
    if schema.samples * schema.channels > MAX_INPUTS:
        yield f"samples: {schema.samples} of {schema.channels} channels, at most {MAX_INPUTS} values a record"
    if not 1 / LARGEST < abs(schema.unit_scale) < LARGEST:
        yield f"unit_scale: {schema.unit_scale:g}, beyond what float32 divides by"


def _repeated(names: Any) -> List[str]:
    seen: Set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def _of_model(line: str) -> str:
    """With the key that it is about."""
    key = re.match(r"model (\w+) ?", line)
    return f"task.model.{key.group(1)}: {line}" if key else f"task.model: {line}"


def _model(model: Dict[str, Any], schema: Optional[Schema], base: Optional[Path]) -> Iterator[str]:
    shape = schema.input_shape if schema is not None else (1, 1) if model.get("kind") == "cnn1d" else (1,)
    try:
        parameters = check_spec(model, shape, schema.learned.outputs if schema is not None else 2)
    except ExportError as error:
        yield from str(error).split("\n")
        return
    widths = model.get("hidden", [16])
    if (
        schema is not None
        and schema.learned.scored
        and model["kind"] == "mlp"
        and min(widths, default=1 << 30) >= shape[0]
    ):
        yield (
            f"hidden: {widths}, of {many(shape[0], 'input')}: a model without a layer that is narrower gives back whatever it is "
            "given, and every score is 0"
        )
    if parameters > MAX_PARAMETERS:
        yield f"{parameters:,} weights, at most {MAX_PARAMETERS:,} fit into what nodes accept: use smaller layers"
    if model["kind"] == "keras" and base is not None:
        try:
            in_float32(check_keras_file(base / model["path"]))
        except ExportError as error:
            yield f"path: {error}"


def _rows(parts: Parts, base: Optional[Path], unlike: Callable[[Path, Schema], str]) -> Iterator[str]:
    """The gateway's own rows: which there must be, and whether they fit the schema."""
    if parts.analysis:
        return
    schema, training = parts.schema, parts.training
    bundles = training is None or training.personal == "none"
    if schema is not None and schema.kind == "signal" and bundles and not parts.calibration:
        yield (
            "calibration: a signal task needs one, calibration = 'FILE.npz' at the top of the file: the int8 ranges of a "
            "board's model come from its signals, and nothing the nodes release says how signals look"
        )
    if parts.calibration_public and not parts.calibration:
        yield "calibration_public: is about the rows of `calibration`: name their file, or take it out"
    named = [*sorted(parts.evaluation.items()), *([("", parts.calibration)] if parts.calibration else [])]
    for group, given in named:
        what = f"evaluation.{group}" if group else "calibration"
        if not given.strip():
            yield f"{what}: empty; it names a data file"
        elif base is not None and schema is not None:
            why = unlike(base / given, schema)
            yield from ([f"{what}: {why}"] if why else [])
        elif base is not None and not (base / given).is_file():
            yield f"{what}: {base / given}: no such file"
