"""The tables of an edgeward.toml, each by itself: a broken one keeps nobody from looking at the others."""

from typing import Any, Dict, NamedTuple, Optional

from orchestrator.gateway.settings import Config, GatewaySettings
from orchestrator.wire.protection import Aggregation, Privacy
from orchestrator.wire.schema import Schema
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
