"""The natural logarithm of a column with transform "log", the same bits wherever it is computed: node, gateway, and board.

No mathematics library is asked, since two of them differ in the last bit. The definition is in whole numbers, as in
firmware/core/logarithm.cpp; what follows it is rounded once, to float32 with halves to even:

    x = m 2^e with m from 1 to below 2, in units of 2^-56. For k from 2 to 29, twice: where m - floor(m / 2^k) is at least 1, m
    becomes that, and the sum grows by -ln(1 - 2^-k), rounded to the same units. Then ln x = e ln 2 + sum + (m - 1).

The error is below 2^-50 before the last rounding, so the result is the float nearest to the logarithm, or of two that are
nearly as near one, and 0 at 1.
"""

import numpy as np

_UNITS = 56
_AT_ONCE = 1 << 14  # values, which stay in a processor's cache
_LN_2 = 49946518145322874
# -ln(1 - 2^-k), k from 2 to 29
_LOGS = (
    20729677988720202, 9621950881057016, 4650490555939335, 2287734814384674, 1134788713174546,
    565160497454030, 282026168387763, 140875106528325, 70403126302050, 35192964820651,
    17594333877653, 8796629936815, 4398180734294, 2199056810667, 1099520016469,
    549757911051, 274878431233, 137439084544, 68719509504, 34359746560,
    17179871232, 8589935104, 4294967424, 2147483680, 1073741832,
    536870914, 268435457, 134217728,
)  # fmt: skip


def logarithm(values: np.ndarray) -> np.ndarray:
    """float32 of any shape, like `values`, which are read as float32 and are finite and at least 2^-126."""
    x = np.ascontiguousarray(values, np.float32)
    result = np.empty_like(x).ravel()
    for at in range(0, x.size, _AT_ONCE):
        bits = x.ravel()[at : at + _AT_ONCE].view(np.int32).astype(np.int64)
        result[at : at + _AT_ONCE] = _in_units(bits).astype(np.float32) * np.float32(2.0**-_UNITS)
    return result.reshape(np.shape(values))


def _in_units(bits: np.ndarray) -> np.ndarray:
    """int64 (n,): the logarithm in 2^-56 of floats given by their bits.

    The same is done for every value, whether it moves or not: how long it takes says nothing of them.
    """
    total = ((bits >> 23) - 127) * _LN_2
    mantissa = ((bits & 0x7FFFFF) | 0x800000) << (_UNITS - 23)
    for k, log in enumerate(_LOGS, 2):
        for _ in range(2):
            smaller = mantissa - (mantissa >> k)
            fits = (smaller >> _UNITS) & 1  # of a mantissa from 1 to below 2, less a quarter at most, this is 0 or 1
            mantissa += (smaller - mantissa) * fits
            total += log * fits
    return np.asarray(total + (mantissa - (1 << _UNITS)), np.int64)


def logarithm_within(values: np.ndarray, least: float, most: float) -> np.ndarray:
    """float32: values are clamped to a column's range first, so that zero, too, has one."""
    return logarithm(np.clip(np.asarray(values, np.float32), np.float32(least), np.float32(most)))
