"""The clip norm of a task: what no record may move a sum by more than (`lattice.clip_l2`)."""

import math
from dataclasses import replace

from orchestrator.analyses.registry import analysis_of
from orchestrator.wire.schema import Schema
from orchestrator.wire.task import Task


def gradient_length(schema: Schema) -> float:
    """How long a record's gradient is at first, about: the target's steepness times sqrt(1 + inputs).

    Of a linear model on standardized inputs (each of mean square 1) and an intercept; with classes sqrt((1 - 1/classes)
    (1 + inputs)). Hidden layers make it a little longer.
    """
    return schema.learned.steepness * math.sqrt(1 + math.prod(schema.input_shape))


def default_clip_norm(task: Task) -> float:
    """For a task that states none: of tables that length at epsilon 8 and more, a quarter at 1 and less, epsilon^(2/3) between.

    A shorter norm takes less noise, and leaves the model too unsure of itself (measured in benchmarks/results/clip_norm.md). Of
    signals, whose inputs are not standardized, and of whole updates it is 1. Of an analysis: its longest vector.
    """
    privacy = task.privacy
    if not task.trains:
        return analysis_of(task).sums.bound
    if task.schema.kind != "table" or not privacy.within_node:
        return 1.0
    share = min(1.0, max(0.25, privacy.epsilon ** (2 / 3) / 4))
    return float(f"{share * gradient_length(task.schema):.2g}")


def with_clipping(task: Task) -> Task:
    """The task as a new run has it: with a clip norm, and a count of clipped units beside the sums of records and patients."""
    privacy = task.privacy
    if not privacy.on:
        return task
    clip_norm = privacy.clip_norm or default_clip_norm(task)
    return replace(task, privacy=replace(privacy, clip_norm=clip_norm, clip_tally=privacy.within_node and task.trains))
