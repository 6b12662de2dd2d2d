"""What is known of the noise of federated evaluation before it runs, against the accountant and against the noise itself."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.cli.main import main
from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.counts import of_sums
from orchestrator.gateway.scores import figures
from orchestrator.privacy.accounting import plan_noise
from orchestrator.privacy.evaluation_outlook import least_multiplier, outlook
from orchestrator.privacy.noisy_sum import evaluation_noise
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Evaluation, Rounds, Task
from orchestrator.wire.training import Training

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
    assert foreseen.auc is not None
    assert foreseen.auc == pytest.approx(_moved(drawn, evenly=True), rel=0.05)
    assert foreseen.auc_least == pytest.approx(_moved(drawn, evenly=False), rel=0.05)
    assert foreseen.loss == pytest.approx(1.96 * 10 * drawn / 1000, rel=0.02)
    assert foreseen.accuracy == pytest.approx(1.96 * drawn * (0.25 * 80) ** 0.5 / 1000, rel=0.02)


def test_the_gaussian_mechanism_is_the_exact_one() -> None:
    # Balle and Wang 2018: at epsilon 1, delta 1e-5 sigma is 3.730632 (their published code).
    assert least_multiplier(1.0, 1e-5) == pytest.approx(3.730632, rel=1e-3)


def _moved(noise: float, evenly: bool) -> float:
    """By how much noise moves the area of a thousand records, half in each class, as it is told of a round."""
    truth, predicted, bin_ = np.indices((2, 2, 20))
    counts = np.full((2, 2, 20), 1000 / 80) if evenly else 500.0 * ((truth == predicted) & (bin_ == 19))
    # A hundred times the records with a hundred times the noise: the small second-order part does not count here.
    told = figures(of_sums(np.append(100 * counts.ravel(), 0.0), 2, 20, noise), resample=False)
    return 100 * float(told["noise"]["auc"])


def test_who_wants_to_steer_by_auc_hears_before_the_first_round_that_noise_will_not_let_him(tmp_path: Path) -> None:
    declared = """
[task]
name = "t"
[task.schema]
kind = "table"
label = "y"
classes = ["n", "p"]
label_values = { "0" = 0, "1" = 1 }
features = [{ name = "x", minimum = 0, maximum = 1 }]
[task.model]
kind = "mlp"
[task.training]
rounds = 40
metric = "auc"
best = true
[task.privacy]
epsilon = 0.5
delta = 0.01
[task.rounds]
nodes = 3
[task.evaluation]
share = 0.2
"""
    file = tmp_path / "edgeward.toml"
    file.write_text(declared)
    with pytest.raises(UsageError, match=r"best and patience cannot go by auc of private federated evaluation"):
        load_config(file)
    file.write_text(declared.replace("delta = 0.01", "delta = 0.00001"))
    assert load_config(file).task.training.metric == "auc"


def test_the_plan_says_what_noise_does_to_the_area(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dp_accounting")
    file = tmp_path / "edgeward.toml"
    file.write_text(
        """
[task]
name = "t"
[task.schema]
kind = "table"
label = "y"
classes = ["n", "p"]
label_values = { "0" = 0, "1" = 1 }
features = [{ name = "x", minimum = 0, maximum = 1 }]
[task.model]
kind = "mlp"
[task.evaluation]
share = 0.2
"""
    )
    main(["privacy", "plan", str(file), "--rows", "300"])
    said = capsys.readouterr().out
    assert "and AUC by about" in said
    assert "accuracy, loss and AUC will be too noisy to show" in said
