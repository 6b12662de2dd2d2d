"""What is known of the noise of federated evaluation before it runs, against the accountant and against the noise itself."""

import pytest

from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.evaluation_outlook import least_multiplier, outlook
from orchestrator.privacy.noisy_sum import evaluation_noise
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task, Training

SCHEMA = Schema("table", "y", ("n", "p"), {"0": 0, "1": 1}, (Feature("x", -4, 4),), standardization="range")


@pytest.mark.parametrize(("epsilon", "every"), [(1.0, 1), (8.0, 5)])
def test_the_noise_foreseen_is_the_noise_planned(epsilon: float, every: int) -> None:
    pytest.importorskip("dp_accounting")
    task = Task("t", SCHEMA, {}, Training(), Privacy(epsilon=epsilon), Rounds(), evaluation=Evaluation(0.2, every))
    planned = plan_noise(task)
    declared = (task.privacy, task.training, task.evaluation, task.aggregation, 2, 2)
    foreseen = outlook(*declared, 1000.0, 0.05)
    assert foreseen.noise_multiplier == pytest.approx(planned.privacy.evaluation_noise_multiplier, rel=0.02)
    drawn = evaluation_noise(planned, nodes=2)
    assert foreseen.loss == pytest.approx(1.96 * 10 * drawn / 1000, rel=0.02)
    assert foreseen.accuracy == pytest.approx(1.96 * drawn * (0.25 * 80) ** 0.5 / 1000, rel=0.02)


def test_the_gaussian_mechanism_is_the_exact_one() -> None:
    # Balle and Wang 2018: at epsilon 1, delta 1e-5 sigma is 3.730632 (their published code).
    assert least_multiplier(1.0, 1e-5) == pytest.approx(3.730632, rel=1e-3)
