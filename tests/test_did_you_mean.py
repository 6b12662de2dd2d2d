"""A name of a closed set that was mistyped is answered with the one that was meant, in files as on the command line."""

from pathlib import Path
from typing import Any, Dict

import pytest

from orchestrator.cli.main import main
from orchestrator.errors import EdgewardError
from orchestrator.gateway.config import load_config
from orchestrator.gateway.registry import MODELS, find_model, remove_tag
from orchestrator.node.policy import load_policy
from orchestrator.wire.bounds import near
from orchestrator.wire.link import BrokerAddress

TABLES: Dict[str, str] = {
    "": "",
    "gateway": 'broker = "embedded"',
    "task": 'name = "t"\ncodec = "int8"',
    "task.schema": 'kind = "table"\nlabel = "y"\nclasses = ["no", "yes"]\nlabel_values = { "0" = 0, "1" = 1 }\n'
    'features = [{ name = "a", minimum = 0, maximum = 10 }]\nstandardization = "range"',
    "task.model": 'kind = "mlp"\nhidden = [4]\nactivation = "relu"',
    "task.training": 'strategy = "fedprox"\nschedule = "cosine"\nmetric = "accuracy"\npersonal = "none"\noptions = { mu = 0.1 }',
    "task.privacy": 'unit = "record"\nepsilon = 3\ndelta = 1e-3\nnoise = "distributed"\nmechanism = "skellam"',
    "task.rounds": "nodes = 3\nquorum = 3",
    "task.selection": "cohort = 0",
    "task.evaluation": "share = 0.2",
    "task.aggregation": 'method = "masked"',
}


def written(tmp_path: Path, table: str = "", right: str = "", wrong: str = "") -> Path:
    assert right in TABLES[table]
    tables = {**TABLES, table: TABLES[table].replace(right, wrong, 1) if right else wrong or TABLES[table]}
    path = tmp_path / "edgeward.toml"
    path.write_text("\n".join(f"[{name}]\n{text}" if name else text for name, text in tables.items()))
    return path


def test_the_file_is_right_as_it_stands(tmp_path: Path) -> None:
    load_config(written(tmp_path))


@pytest.mark.parametrize(
    ("table", "right", "wrong", "meant"),
    [
        ("", "", "calibratoin = 'x.csv'", "calibration"),
        ("gateway", '"embedded"', '"Embeded"', "embedded"),
        ("gateway", '"embedded"', '"mosquito"', "mosquitto"),
        ("gateway", '"embedded"', '"mqqt://host"', "mqtt"),
        ("gateway", "broker", "brokr", "broker"),
        ("task", "codec =", "codek =", "codec"),
        ("task", '"int8"', '"INT8"', "int8"),
        ("task.schema", '"table"', '"tabel"', "table"),
        ("task.schema", '"range"', '"rnage"', "range"),
        ("task.schema", "minimum =", "minimun =", "minimum"),
        ("task.schema", "classes", "classses", "classes"),
        ("task.schema", "label =", "labels =", "label"),
        ("task.model", "kind", "kinds", "kind"),
        ("task.model", '"mlp"', '"mpl"', "mlp"),
        ("task.model", "hidden", "hiden", "hidden"),
        ("task.model", '"relu"', '"ReLU"', "relu"),
        ("task.training", '"fedprox"', '"FedProx"', "fedprox"),
        ("task.training", '"cosine"', '"cosin"', "cosine"),
        ("task.training", '"accuracy"', '"acuracy"', "accuracy"),
        ("task.training", '"none"', '"non"', "none"),
        ("task.training", "mu =", "mue =", "mu"),
        ("task.training", "schedule", "shedule", "schedule"),
        ("task.privacy", '"record"', '"records"', "record"),
        ("task.privacy", '"distributed"', '"distribute"', "distributed"),
        ("task.privacy", '"skellam"', '"Skelam"', "skellam"),
        ("task.privacy", "epsilon", "epsilom", "epsilon"),
        ("task.rounds", "quorum", "qorum", "quorum"),
        ("task.selection", "cohort", "cohorte", "cohort"),
        ("task.evaluation", "share", "shares", "share"),
        ("task.aggregation", '"masked"', '"mask"', "masked"),
    ],
)
def test_of_edgeward_toml(tmp_path: Path, table: str, right: str, wrong: str, meant: str) -> None:
    with pytest.raises(EdgewardError, match=f"did you mean '{meant}'"):
        load_config(written(tmp_path, table, right, wrong))


@pytest.mark.parametrize(
    ("table", "text", "meant"),
    [
        ("task.training", "delta = 1e-3", "task.privacy"),
        ("task.selection", "best = true", "task.training"),
        ("gateway", "quorum = 2", "task.rounds"),
        ("", "federation = 'icu'", "gateway"),
    ],
)
def test_a_key_of_another_table_is_sent_there(tmp_path: Path, table: str, text: str, meant: str) -> None:
    path = written(tmp_path, table, wrong=f"{TABLES[table]}\n{text}")
    with pytest.raises(EdgewardError, match=rf"unknown, it belongs to \[{meant}\]"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[alow]\ntasks = ['t']", "allow"),
        ("[budget]\nepsilon_tsak = 1.0", "epsilon_task"),
        ("[require]\nunits = ['Record']", "record"),
        ("[require]\nstages = ['noize']", "noise"),
    ],
)
def test_of_policy_toml(tmp_path: Path, text: str, meant: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(EdgewardError, match=f"did you mean '{meant}'"):
        load_policy(path)


def test_of_tags_and_addresses(tmp_path: Path) -> None:
    folder = tmp_path / MODELS
    (folder / ("aa" * 8)).mkdir(parents=True)
    (folder / "tags.json").write_text(f'{{"production": "{"aa" * 8}"}}')
    (folder / ("aa" * 8) / "lineage.json").write_text(f'{{"digest": "{"aa" * 8}", "kept_at": 1, "made_by": []}}')
    for ask in (find_model, remove_tag):
        with pytest.raises(EdgewardError, match="did you mean 'production'"):
            ask(tmp_path, "prodction")
    with pytest.raises(EdgewardError, match="did you mean 'mqtts'"):
        BrokerAddress.parse("mqts://host")


@pytest.mark.parametrize(
    ("value", "known", "meant"), [("AGE", ["age"], "age"), ("zzz", ["age"], ""), (7, ["seven"], "")]
)
def test_what_resembles_what(value: Any, known: Any, meant: str) -> None:
    assert near(value, known) == (f", did you mean {meant!r}?" if meant else "")


def test_a_name_that_looks_the_same_is_told_apart() -> None:
    assert (
        near("ag\u0435", ["age", "sex"])
        == ", did you mean 'age'? They look the same and are not: 'ag\\u0435' and 'age'"
    )
    assert "'cafe\\u0301' and 'caf\\xe9'" in near("cafe\u0301", ["caf\xe9"])
    assert near("AGE", ["age"]) == ", did you mean 'age'?"


def test_a_folder_that_stands_alone_is_answered_with_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["runs", "list"], ["model", "list"]):
        with pytest.raises(SystemExit):
            main([*command, str(tmp_path)])
        assert f"unrecognized arguments: {tmp_path}; write --out {tmp_path}" in capsys.readouterr().err
