"""Strategies in which nodes score each other's models: what such a task has to be."""

from typing import Iterator

from orchestrator.wire.schema import Schema


def objections(strategy: str, schema: Schema, held_out: bool, provided: bool) -> Iterator[str]:
    """Why nodes cannot score each other's models. held_out: whether they hold records out; provided: by a higher gateway."""
    if not held_out:
        yield f"training.strategy {strategy!r} scores models on records that nodes hold out: set share in [task.evaluation]"
    if schema.target or len(schema.classes) < 2:
        yield f"training.strategy {strategy!r} scores models of classes: choose another one for this target"
    if provided:
        yield f"training.strategy {strategy!r} works through no relay: single models go from node to node"
