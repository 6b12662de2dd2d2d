"""Which arithmetic a task's rounds take: by who sees what single nodes sent, and by who adds the noise."""

from typing import Optional

from orchestrator.gateway.aggregation import Aggregation, Evaluate
from orchestrator.gateway.central_noise import CentralAggregation
from orchestrator.gateway.encrypted_aggregation import EncryptedAggregation
from orchestrator.gateway.run_store import RunStore
from orchestrator.gateway.secure_aggregation import SecureAggregation
from orchestrator.wire.task import Task


def aggregation_of(store: RunStore, run: str, task: Task, evaluate: Optional[Evaluate], federation: str) -> Aggregation:
    if task.aggregation.secure:
        kind = EncryptedAggregation if task.aggregation.key_holder else SecureAggregation
        return kind(store, run, task, evaluate, federation)
    plain = CentralAggregation if task.privacy.central else Aggregation
    return plain(store, run, task, evaluate)
