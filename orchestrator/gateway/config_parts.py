"""The tables of an edgeward.toml, each by itself: a broken one keeps nobody from looking at the others."""

from typing import Any, Dict, NamedTuple, Optional

from orchestrator.gateway.settings import Config, GatewaySettings
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
from orchestrator.wire.structure import attempt
from orchestrator.wire.task import Evaluation, Rounds, Selection
from orchestrator.wire.training import Training


class Parts(NamedTuple):
    """The tables of an edgeward.toml that make sense by themselves; None for the others."""

    gateway: Optional[GatewaySettings]
    evaluation: Dict[str, str]
    calibration: str
    calibration_public: bool
    name: Optional[str]
    schema: Optional[Schema]
    model: Optional[Dict[str, Any]]
    training: Optional[Training]
    rounds: Optional[Rounds]
    selection: Optional[Selection]
    federated: Optional[Evaluation]
    aggregation: Optional[Aggregation]
    privacy: Optional[Privacy]
    analysis: Dict[str, Any]  # empty where a model is trained


def parts_of(config: Config) -> Parts:
    task = config.task
    return Parts(
        config.gateway,
        config.evaluation,
        config.calibration,
        config.calibration_public,
        task.name,
        task.schema,
        task.model,
        task.training,
        task.rounds,
        task.selection,
        task.evaluation,
        task.aggregation,
        task.privacy,
        task.analysis,
    )


def parts_of_text(data: Dict[str, Any], gateway: type) -> Parts:
    """Of plain data that may be wrong in places. `gateway`: the dataclass of its first table."""
    task = data.get("task")
    task = task if isinstance(task, dict) else {}

    def part(kind: Any, name: str, inside: Dict[str, Any] = task) -> Any:
        return attempt(inside.get(name, {}), kind)[0]

    evaluation, calibration, name = data.get("evaluation"), data.get("calibration"), task.get("name")
    return Parts(
        part(gateway, "gateway", data),
        evaluation if isinstance(evaluation, dict) and all(isinstance(v, str) for v in evaluation.values()) else {},
        calibration if isinstance(calibration, str) else "",
        data.get("calibration_public") is True,
        name if isinstance(name, str) else None,
        part(Schema, "schema"),
        task.get("model", {})
        if task and all(isinstance(task.get(name, {}), dict) for name in ("model", "analysis"))
        else None,
        part(Training, "training"),
        part(Rounds, "rounds"),
        part(Selection, "selection"),
        part(Evaluation, "evaluation"),
        part(Aggregation, "aggregation"),
        part(Privacy, "privacy"),
        task["analysis"] if isinstance(task.get("analysis"), dict) else {},
    )
