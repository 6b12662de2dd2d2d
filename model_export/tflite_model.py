"""What a .tflite file holds, as tflite_file reads it: tensors, operators, subgraphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph. A tensor without quantization has empty `scales` and `zero_points`."""

    index: int
    name: str
    shape: Tuple[int, ...]
    dtype: str
    """TFLite's type in lower case: 'int8', 'float32', 'string', ..."""
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    """The axis `scales` run along where there is more than one, as the file says. TFLM never reads that of a bias."""
    data: Optional[np.ndarray]
    """Constant content, a read only view into the file, shaped where the dtype is one of numpy's."""
    buffer_offset: Optional[int]
    """Byte offset of `data` in the file; None if not constant."""
    is_variable: bool = False
    is_sparse: bool = False
    """Then `data` holds the packed values only."""


@dataclass(frozen=True)
class Op:
    """One operator. `options` has snake_case names and enums as text; empty where none of operators/ knows them."""

    index: int
    code: str
    """Builtin name such as 'CONV_2D'; for a custom operator 'CUSTOM:<name>'."""
    code_int: int
    version: int
    inputs: Tuple[int, ...]
    """Tensor indices; -1 where an optional input is left out."""
    outputs: Tuple[int, ...]
    options: Dict[str, Any]


@dataclass(frozen=True)
class Subgraph:
    name: str
    tensors: Tuple[Tensor, ...]
    ops: Tuple[Op, ...]
    inputs: Tuple[int, ...]
    outputs: Tuple[int, ...]


@dataclass(frozen=True)
class TfliteModel:
    description: str
    subgraphs: Tuple[Subgraph, ...]

    @property
    def tensors(self) -> Tuple[Tensor, ...]:
        return self.subgraphs[0].tensors

    @property
    def ops(self) -> Tuple[Op, ...]:
        return self.subgraphs[0].ops

    @property
    def inputs(self) -> Tuple[int, ...]:
        return self.subgraphs[0].inputs

    @property
    def outputs(self) -> Tuple[int, ...]:
        return self.subgraphs[0].outputs
