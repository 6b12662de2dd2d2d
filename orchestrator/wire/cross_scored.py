"""Strategy fuala, in which nodes score each other's models: what such a task has to be."""

from typing import Iterator

from orchestrator.wire.codec import ERROR_FEEDBACK
from orchestrator.wire.schema import Schema


def objections(schema: Schema, held_out: bool, provided: bool, codec: str) -> Iterator[str]:
    """Why nodes cannot score each other's models. held_out: whether they hold records out; provided: by a higher gateway."""
    if not held_out:
        yield "strategy 'fuala' scores models on records that nodes hold out: set share in [task.evaluation]"
    if schema.target or len(schema.classes) < 2:
        yield "strategy 'fuala' scores models of classes: choose another one for this target"
    if provided:
        yield "strategy 'fuala' works through no relay: single models go from node to node"
    if codec in ERROR_FEEDBACK:
        yield f"codec {codec!r}: strategy 'fuala' has each update scored as it came; use int8 or int4"
