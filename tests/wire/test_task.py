from typing import Any, Dict

import pytest

from orchestrator.errors import UsageError
from orchestrator.wire.claims import objection_to, oversized
from orchestrator.wire.protection import Privacy
from orchestrator.wire.task import task_from_dict, task_to_dict


def minimal() -> Dict[str, Any]:
    return {
        "name": "t",
        "schema": {
            "kind": "table",
            "label": "y",
            "classes": ["no", "yes"],
            "label_values": {"0": 0, "1": 1},
            "features": [
                {"name": "age", "minimum": 0, "maximum": 100},
                {"name": "pain", "categories": ["a", "b", "c"]},
            ],
        },
        "model": {"kind": "mlp", "hidden": [4]},
    }


def test_a_task_survives_the_wire() -> None:
    task = task_from_dict(minimal())
    assert task_from_dict(task_to_dict(task)) == task
    assert task.schema.input_shape == (4,)
    assert [column for column, _ in task.schema.numbers()] == [0]


def test_every_mistake_is_reported_at_once_with_its_place_and_the_nearest_name() -> None:
    data = minimal()
    del data["schema"]["label"]
    data["schema"]["features"][0]["minimum"] = 200
    data["traning"] = {}
    data["rounds"] = {"nodes": "3"}
    with pytest.raises(UsageError) as caught:
        task_from_dict(data, "edgeward.toml")
    text = str(caught.value)
    assert text.startswith("edgeward.toml:")
    for part in (
        "schema.label: 'label' is missing",
        "schema.features[0]: feature 'age': minimum 200",
        "rounds.nodes: '3'",
        "traning: unknown, did you mean 'training'?",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("training", {"rounds": 0}, "at least 1"),
        ("training", {"learning_rate": float("nan")}, "nan is not a finite number"),
        ("training", {"learning_rate": -1.0}, "positive"),
        ("training", {"strategy": "fedsgd", "local_steps": 2}, "exactly one gradient"),
        ("privacy", {"unit": "patient"}, "schema.patient must name"),
        ("privacy", {"noise": "distributed"}, "makes only sums private"),
        ("privacy", {"noise": "gateway"}, "would see every node"),
        ("aggregation", {"method": "masked"}, "rounds.quorum: 1, fewer than the 3"),
        ("aggregation", {"honest": 2}, "of two each knows"),
        ("aggregation", {"method": "ckks"}, "key_holder"),
        ("aggregation", {"method": "ckks", "key_holder": "k", "checked": False}, "checked = false is retired"),
        ("aggregation", {"checked": False}, "checked = false is retired"),
        ("privacy", {"epsilon": -1}, "positive"),
        ("privacy", {"delta": 1}, "between 0 and 1"),
        ("privacy", {"sampling_rate": 0}, "in \\(0, 1\\]"),
        ("rounds", {"nodes": 2, "quorum": 3}, "1 to nodes"),
    ],
)
def test_impossible_values_are_refused(section: str, values: Dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        task_from_dict({**minimal(), section: values})


def test_another_format_is_refused_naming_both() -> None:
    with pytest.raises(UsageError, match="format 2.*format 1"):
        task_from_dict({**minimal(), "format": 2})


@pytest.mark.parametrize("every", [1, 2, 3, 7, 20, 50])
def test_evaluations_are_as_many_as_rounds_that_evaluate(every: int) -> None:
    for rounds in (1, 2, 7, 20, 21):
        task = task_from_dict(
            {**minimal(), "training": {"rounds": rounds}, "evaluation": {"share": 0.2, "every": every}}
        )
        assert task.evaluations == sum(task.evaluates(n) for n in range(1, task.last_round + 1))
    assert task_from_dict(minimal()).evaluations == 0


def test_a_declaration_of_more_rounds_than_anybody_can_count_is_read_at_once() -> None:
    """A node reads it before anything else: it must not take a loop over rounds."""
    many = {"rounds": 10**15}
    task = task_from_dict({**minimal(), "training": many, "evaluation": {"share": 0.2, "every": 3}})
    assert task.evaluations == (10**15 + 2) // 3
    with pytest.raises(UsageError, match="bands: 5000, at most 4096"):
        task_from_dict({**minimal(), "privacy": {"unit": "node", "noise": "gateway", "bands": 5000}})


@pytest.mark.parametrize("personal", ["head", "intercept"])
def test_a_personal_part_needs_a_node_that_noises_its_own_update(personal: str) -> None:
    """In shares a node sends the noised sum of all gradients: it has no step of its own to keep."""
    data = {**minimal(), "aggregation": {"method": "masked"}, "training": {"strategy": "fedsgd", "personal": personal}}
    data["rounds"] = {"nodes": 4, "quorum": 3}
    with pytest.raises(UsageError, match="personal parts together with privacy.noise 'distributed'"):
        task_from_dict({**data, "privacy": {"noise": "distributed"}})
    assert task_from_dict({**data, "privacy": {"noise": "node"}}).training.personal == personal


def test_a_node_objects_to_a_claim_that_is_none() -> None:
    def task(**privacy: Any) -> Any:
        values = {"delta": 1e-3, "noise_multiplier": 1.0, "statistics_noise_multiplier": 2.0, **privacy}
        data = {**minimal(), "privacy": values}
        standardization = "range" if privacy.get("unit") == "node" else "federated"
        data["schema"] = {**data["schema"], "patient": "p", "standardization": standardization}
        return task_from_dict(data)

    assert objection_to(task()) is None
    assert "declares no noise" in str(objection_to(task(noise_multiplier=0.0)))
    assert "declares no noise" in str(objection_to(task(statistics_noise_multiplier=0.0)))
    assert oversized(task(), 999) is None
    for unit in ("record", "patient"):
        assert f"1/1000: it would allow a whole {unit} to leak" in str(oversized(task(unit=unit), 1000))
    assert oversized(task(unit="node"), 1000) is None, "a node is one unit"
    assert not Privacy(unit="none").on
