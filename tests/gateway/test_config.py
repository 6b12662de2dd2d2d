from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import load_config

GOOD = """
[gateway]
federation = "icu"
port = 1900

[evaluation]
held-out = "test.csv"

[task]
name = "t"
[task.schema]
kind = "table"
label = "y"
classes = ["a", "b"]
label_values = {"0" = 0, "1" = 1}
features = [{name = "x", minimum = 0, maximum = 2}]
[task.model]
kind = "mlp"
hidden = [4]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edgeward.toml"
    path.write_text(text)
    return path


def test_a_good_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert (config.gateway.federation, config.gateway.port, config.gateway.broker) == ("icu", 1900, "embedded")
    assert config.task.schema.input_shape == (1,)


def test_all_mistakes_of_a_file_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("port = 1900", 'port = "1900"\nbrokr = "mosquitto"').replace('kind = "table"', 'kind = "tble"')
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, text))
    said = str(caught.value)
    assert "edgeward.toml" in said
    assert "gateway.port: '1900' is not a int" in said
    assert "gateway.brokr: unknown, did you mean 'broker'?" in said
    assert "'tble': expected 'table' or 'signal'" in said


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match=r"edgeward.toml: not TOML: .*line 1"):
        load_config(write(tmp_path, "a = = 3"))


def test_the_example_in_the_docs_is_valid() -> None:
    config = load_config(Path(__file__).parents[2] / "docs" / "edgeward.toml")
    assert config.task.schema.input_shape == (6,)
    assert (config.task.rounds.nodes, config.task.privacy.epsilon) == (3, 8.0)
