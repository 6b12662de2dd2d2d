"""Which rows make fair known answers: those whose bits do not hang on how TFLM rounds one product.

For a FULLY_CONNECTED with one scale, the tflite-micro wheel multiplies input and weight scale in double, esp-tflite-micro
1.4.0 in float. The multipliers differ in their last bits, so an accumulator close to a rounding boundary gives another
output on a correct board. Every operator of which that holds says so (`agreement` in operators/), and is computed both ways here,
from the inputs TFLM itself gave it.
"""

from __future__ import annotations

import numpy as np

from model_export.operators import operators
from model_export.tflite_file import read_tflite
from model_export.tflm import TflmModel


def fair_rows(model: TflmModel, tflite: bytes, rows: np.ndarray) -> np.ndarray:
    """bool (rows,): True where every layer gives the same bits both ways. `rows` is int8 (rows, *input shape)."""
    parsed = read_tflite(tflite)
    entries = [(op, operators().get(op.code)) for op in parsed.ops]
    found = [(op.inputs[0], entry.agreement(parsed, op)) for op, entry in entries if entry and entry.agreement]
    agreements = [(source, agreement) for source, agreement in found if agreement is not None]
    fair = np.ones(len(rows), bool)
    if not agreements or not len(rows):
        return fair
    inputs = model.run_tensors(rows, sorted({source for source, _ in agreements}))
    for source, agreement in agreements:
        fair &= agreement(inputs[source])
    return fair
