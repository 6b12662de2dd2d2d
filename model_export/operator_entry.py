"""What a file of operators/ says of one TFLite operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Callable, List, Optional, Tuple, Union

import numpy as np

from model_export.plan_context import Context
from model_export.plan_steps import Kind, Step
from model_export.tflite_model import Op, Subgraph, TfliteModel
from model_export.tflite_options import Options
from model_export.tflm_structs import Kernel


class Role(Enum):
    """What an operator does with a variable, which outlives an inference."""

    HANDLE = "handle"
    READ = "read"
    ASSIGN = "assign"
    ONCE = "once"
    """It runs the subgraph that initializes variables, before the first inference."""


Agreement = Callable[[np.ndarray], np.ndarray]
"""int8 (rows, elements) of the first input to bool (rows,)."""


@dataclass(frozen=True)
class Operator:
    """Whatever is left out is not known, or there is nothing of it."""

    name: str
    """As in tflite_names, which has the number: 'CONV_2D'."""
    options: Optional[Options] = None
    kernel: Optional[Kernel] = None
    kinds: Tuple[Kind, ...] = ()
    """Of the steps `plan` makes, each named where its number and its table are said."""
    plan: Optional[Callable[[Context], Union[Step, List[Step]]]] = None
    """The steps engine/direct computes it in, the same bits as TFLM. Raises PlanError for what it does not support."""
    same_bytes: bool = False
    """It does no work: its output is its input's bytes, in another shape."""
    role: Optional[Role] = None
    """Of operators for state, which model_export/plan_state.py plans; None of all others."""
    several_outputs: bool = False
    scores: bool = False
    """Its outputs are between 0 and 1."""
    agreement: Optional[Callable[[TfliteModel, Op], Optional[Agreement]]] = None
    """Where versions of TFLM round differently: on which inputs they give the same bits; None where they always do."""
    tflm_stops: Optional[Callable[[Subgraph, Op], Optional[str]]] = None
    """Why TFLM would abort, or reach beyond its tensors, instead of returning an error; None where it would not."""
