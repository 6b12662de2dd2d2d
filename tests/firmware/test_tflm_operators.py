"""A board with engine/tflm runs every operator engine/direct runs: exporting for one never excludes the other."""

import re
from pathlib import Path

from model_export.operators import aliases, supported
from model_export.sources import resolver_method

ENGINE = Path(__file__).parents[2] / "firmware/engine/tflm/engine_tflm.cpp"


def test_the_resolver_has_every_operator_of_engine_direct() -> None:
    source = ENGINE.read_text()
    registered = re.findall(r"add\(resolver->(Add\w+)\(\)\);", source)
    assert set(registered) >= {resolver_method(op) for op in supported() | aliases()}
    # The resolver's capacity: with less, the last operators fail to register; with more, RAM is wasted.
    assert int(re.findall(r"kOperators = (\d+);", source)[0]) == len(set(registered)) == len(registered)
