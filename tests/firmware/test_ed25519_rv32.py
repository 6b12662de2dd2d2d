"""What a verification costs on rv32imc, counted in qemu. Simulated: instructions are no time on a board."""

import pytest

from orchestrator.boards.rv32 import missing, verify_cost

PROBLEM = missing()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=str(PROBLEM))


def test_cost_of_a_verification() -> None:
    cost = verify_cost()
    assert 100_000 < cost.instructions < 20_000_000
    assert 1_000 < cost.stack_bytes < 4_096  # the firmware's task has 12,288
    assert 1_000 < cost.flash_bytes < 10_240
