import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import List, Tuple

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.config import check_config, load_config

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
    assert "gateway.port: '1900' is not a whole number" in said
    assert "gateway.brokr: unknown, did you mean 'broker'?" in said
    assert "'tble': expected 'table' or 'signal'" in said


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_config(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match=r"edgeward.toml: not TOML: .*line 1"):
        load_config(write(tmp_path, "a = = 3"))


def test_a_file_as_windows_editors_save_it(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_config(path).gateway.federation == "icu"
    for content, reason in (
        (GOOD.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b'[task]\nname = "\xe4"', "toml:2: .*not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=reason):
            load_config(path)


def test_the_example_in_the_docs_is_valid() -> None:
    config = load_config(Path(__file__).parents[2] / "docs" / "edgeward.toml")
    assert config.task.schema.input_shape == (6,)
    assert (config.task.rounds.nodes, config.task.privacy.epsilon) == (3, 8.0)


def said(tmp_path: Path, text: str, files: bool = False) -> List[str]:
    """The mistakes of a file, a line each."""
    with pytest.raises(UsageError) as caught:
        load_config(write(tmp_path, text), files=files)
    assert caught.value.exit_code == 2
    return str(caught.value).split("\n")[1:]


SIGNAL = """
calibration = "quiet.npz"
[task]
name = "motion"
[task.schema]
kind = "signal"
label = "y"
classes = ["a", "b"]
label_values = {"0" = 0, "1" = 1}
samples = 100
channels = 6
[task.model]
kind = "cnn1d"
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('name = "t"', 'name = "a name of more than thirty-two bytes"'), "task.name: .*1 to 32 bytes"),
        (('name = "t"', "name = ''"), "task.name: .*1 to 32 bytes"),
        (("port = 1900", "port = 99999"), "gateway.port: 99999, expected 0 to 65535"),
        (("port = 1900", 'sites = ["n1", "n2", "n1"]'), "gateway.sites: 'n1' is there twice"),
        (("maximum = 2}", 'maximum = 2}, {name = "x", minimum = 0, maximum = 1}'), "features: 'x' is there twice"),
        (('label = "y"', 'label = "y"\ncolumns = ["x", "y", "x"]'), "columns: 'x' is there twice"),
        (("port = 1900", "port = -1"), "gateway.port: -1, expected 0 to 65535"),
        (("port = 1900", 'broker = "embeded"'), "gateway.broker 'embeded': .* did you mean 'embedded'"),
        (("port = 1900", 'broker = "http://x"'), "gateway.broker address 'http://x'"),
        (
            ("port = 1900", 'host = "not a host"'),
            "gateway.host: 'not a host' is neither a host's name nor an IP address",
        ),
        (("port = 1900", 'dashboard = "8080x"'), "gateway.dashboard: "),
        (("port = 1900", 'identity = "here"'), "gateway.identity: the embedded broker cannot check"),
        (('federation = "icu"', 'federation = "I C U"'), "gateway.federation 'I C U'"),
        (('label = "y"', 'label = "x"'), r"schema.features\[0\]: 'x' is the label"),
        (('["a", "b"]', '["a", "a"]'), "schema.classes: a twice"),
        (('["a", "b"]', '["a", "b", "c"]'), "schema.label_values: no value stands for c"),
        (('"1" = 1', '"1" = 1, "1.0" = 0'), "schema.label_values: 1 is there twice"),
        (('"1" = 1', '"NA" = 1'), "'NA' also stands for a missing value"),
        (("minimum = 0, maximum = 2", 'categories = ["one"]'), "one category, so its value says nothing"),
        (("minimum = 0, maximum = 2", 'categories = ["1", "1.0"]'), "category 1 is there twice"),
        (("maximum = 2", 'maximum = 2, categories = ["a", "b"]'), "has a range and categories"),
        (("minimum = 0, maximum = 2", "minimum = 0"), "minimum and maximum are needed.*maximum = 120 for an age"),
        ((", minimum = 0, maximum = 2", ""), "minimum and maximum are needed"),
        (("maximum = 2", "maximum = nan"), "maximum: nan is not a finite number"),
        (("maximum = 2", "maximum = 1e300"), "are too near, or cannot be squared, in float32"),
        (("minimum = 0, maximum = 2", "minimum = 1e9, maximum = 1000000001"), "are too near, or cannot be squared"),
        (('kind = "mlp"', 'kind = "mpl"'), "model kind 'mpl' is unknown.*did you mean 'mlp'"),
        (('kind = "mlp"', 'kind = "cnn1d"'), "model: a model of kind cnn1d has no 'hidden'"),
        (("hidden = [4]", "hiden = [4]"), "has no 'hiden'.*did you mean 'hidden'"),
        (("hidden = [4]", "hidden = [0]"), "width is a whole number from 1 to 4096"),
        (("hidden = [4]", "hidden = [1e9]"), "width is a whole number from 1 to 4096"),
        (("hidden = [4]", "hidden = [4096, 4096, 4096]"), "weights, at most 33,554,432 fit"),
        (("hidden = [4]", 'activation = "rlu"'), "did you mean 'relu'"),
        (
            ("[task.model]", '[task.training]\nstrategy = "fedagv"\n[task.model]'),
            "strategy 'fedagv'.*did you mean 'fedavg'",
        ),
        (
            ("[task.model]", '[task.training]\nstrategy = "fedprox"\noptions = {muu = 1.0}\n[task.model]'),
            "no option 'muu'.*did you mean 'mu'",
        ),
        (
            ("[task.model]", '[task.training]\nstrategy = "krum"\n[task.model]'),
            "strategy 'krum' needs . updates a round, the quorum is 1",
        ),
        (("[task.model]", "[task.training]\noptions = {mu = inf}\n[task.model]"), "inf is not a finite number"),
        (("[task.model]", "[task.training]\nrounds = 1000000001\n[task.model]"), "training.rounds: 1000000001"),
        (("[task.model]", "[task.training]\nlearning_rate = 1e99\n[task.model]"), "training.learning_rate: 1e"),
        (("[task.model]", '[task.training]\nschedule = "cosin"\n[task.model]'), "did you mean 'cosine'"),
        (
            ("[task.model]", "[task.rounds]\nnodes = 1000000000\n[task.model]"),
            "rounds.nodes: 1000000000, expected 1 to 100000",
        ),
        (("[task.model]", "[task.rounds]\ndeadline_s = nan\n[task.model]"), "rounds.deadline_s: nan is not a finite"),
        (
            ("[task.model]", "[task.rounds]\nnodes = 4\nquorum = 2\nminimum_nodes = 5\n[task.model]"),
            "minimum_nodes: 5, expected",
        ),
        (
            ("[task.model]", "[task.rounds]\nnodes = 4\nquorum = 2\nminimum_nodes = 1\n[task.model]"),
            "minimum_nodes: 1, expected",
        ),
        (("[task.model]", "[task.privacy]\nepsilon = inf\n[task.model]"), "privacy.epsilon: inf is not a finite"),
        (("[task.model]", '[task.privacy]\nunit = "recrod"\n[task.model]'), "unit 'recrod'.*did you mean 'record'"),
        (('name = "t"', 'name = "t"\nseed = -1'), "seed: -1, expected 0 or more"),
        (('name = "t"', 'name = "t"\ncodec = "in8"'), "codec 'in8'.*did you mean 'int8'"),
        (('name = "t"', 'name = "t"\nseed = 1' + "0" * 30), "seed: a whole number of 100 bits is too large"),
        (('name = "t"', 'name = "t"\nseed = 1' + "0" * 5000), "not TOML: "),
        (('name = "t"', 'name = "t"\nx = ' + "[" * 5000), "nested too deeply"),
        (("[gateway]", "[[gateway]]"), r"gateway: .* is not a table; \[\[gateway\]\] begins a list"),
        (("[task.model]", "[[task.rounds]]\nnodes = 3\n[task.model]"), "task.rounds: .* is not a table"),
        (('["a", "b"]', '"ab"'), "schema.classes: 'ab' is not a list"),
        (("minimum = 0, maximum = 2", "minimum = 0, maximum = 1e-40"), "'x'.*are too near, or cannot be squared"),
        (
            ("minimum = 0, maximum = 2", 'minimum = 1e9, maximum = 1.000011e9, transform = "log"'),
            "'x'.*are too near, or cannot be squared",
        ),
        (('label = "y"', 'label = "y "'), "schema.label: 'y '.*without the spaces"),
        (('{"0" = 0', '{" 0" = 0'), "schema.label_values: ' 0'.*without the spaces"),
        (("minimum = 0, maximum = 2", 'categories = ["u", " v"]'), r"schema.features\[0\].categories: ' v'"),
        (('["a", "b"]', '["a", " "]'), "schema.classes: ' '"),
        (('label = "y"', 'label = "y"\nmissing_markers = ["? "]'), "schema.missing_markers: '. '"),
        (
            ("port = 1900", 'port = 1900\ndashboard = "127.0.0.1:1900"'),
            "gateway.dashboard: port 1900 is that of the broker",
        ),
        (("[task.model]", "[task.rounds]\nprovided = true\n[task.model]"), "rounds.provided: set by"),
        (("[task.model]", "[task.training]\nparameters = 5\n[task.model]"), "training.parameters: set by"),
        (
            (
                "[task.model]",
                '[task.rounds]\nnodes = 4\nquorum = 4\n[task.training]\nstrategy = "trimmed-mean"\n[task.model]',
            ),
            "'trim' is 0.2.*quorum of 4 .*quorum to 5",
        ),
        (
            (
                "[task.model]",
                '[task.rounds]\nnodes = 9\nquorum = 5\n[task.training]\nstrategy = "multi-krum"\noptions = { keep = 3 }\n'
                "[task.model]",
            ),
            "'keep' is 3.*at most 2",
        ),
        (
            (
                "[task.model]",
                '[task.aggregation]\nmethod = "ckks"\nkey_holder = "Key Holder"\n[task.rounds]\nnodes = 4\nquorum = 3\n'
                "[task.model]",
            ),
            "task.aggregation.key_holder 'Key Holder'",
        ),
        (
            ("[task.model]", "[task.training]\nrounds = 2026-01-31\n[task.model]"),
            "rounds: 2026-01-31 is not a whole number",
        ),
        (("hidden = [4]", f"hidden = [{'4,' * 65}]"), "hidden lists 65 layers, at most 64"),
    ],
)
def test_what_a_file_cannot_mean(tmp_path: Path, change: Tuple[str, str], reason: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError, match=reason):
        load_config(write(tmp_path, GOOD.replace(*change)))


def test_mistakes_of_all_tables_are_told_together(tmp_path: Path) -> None:
    """Also where one of them is broken by itself, so that the whole can never be built."""
    text = GOOD.replace('name = "t"', 'name = "a name of more than thirty-two bytes"').replace("1900", "99999")
    text = (
        text.replace("hidden = [4]", "hidden = [99999]")
        + '[task.training]\nstrategy = "no"\nbest = true\n[task.rounds]\nnodes = "3"\n'
    )
    text = text.replace('[evaluation]\nheld-out = "test.csv"\n', "")
    lines = "\n".join(said(tmp_path, text))
    for part in (
        "task.name",
        "gateway.port",
        "task.model",
        "best and patience need",
        "rounds.nodes: '3' is not a whole number",
    ):
        assert part in lines
    text = text.replace('nodes = "3"', "nodes = 3")
    assert "strategy 'no'" in "\n".join(said(tmp_path, text))


def test_noise_that_would_choose_the_round_is_refused_where_that_is_known(tmp_path: Path) -> None:
    steered = GOOD.replace(
        "[task.model]", "[task.training]\nrounds = 20\npatience = 3\n[task.privacy]\nPRIVACY\n[task.model]"
    )
    steered += "[task.evaluation]\nshare = 0.3\n"
    few = steered.replace("PRIVACY", "epsilon = 1.0\ndelta = 1e-2")
    (line,) = [line for line in said(tmp_path, few) if "best and patience cannot go by loss" in line]
    assert "with 86 records held out, the most that delta 0.01 allows on 2 nodes, noise alone" in line
    for known in (
        few.replace("patience = 3", "patience = 0"),
        few.replace("share = 0.3", "share = 0.0"),
        few.replace("delta = 1e-2", "delta = 1e-6"),  # nodes may have enough: their rounds will tell
        few.replace("epsilon = 1.0", 'unit = "none"'),
    ):
        load_config(write(tmp_path, known))


def test_class_weights_are_numbers_or_what_no_claim_speaks_against(tmp_path: Path) -> None:
    def weighed(weights: str, unit: str = "none") -> str:
        settings = f'[task.training]\nclass_weights = {weights}\n[task.privacy]\nunit = "{unit}"\n'
        return GOOD.replace("[task.model]", settings + "[task.model]")

    assert load_config(write(tmp_path, weighed("[1, 4.5]", "record"))).task.training.class_weights == (1.0, 4.5)
    assert load_config(write(tmp_path, weighed('"balanced"'))).task.training.class_weights == "balanced"
    for weights, unit, reason in (
        ('"balanced"', "record", "how many records of each class a node has is private"),
        ('"balance"', "none", "did you mean 'balanced'"),
        ("[1.0]", "none", "1 numbers, the schema has 2 classes"),
        ("[1.0, 0.0]", "none", "class_weights: 0, expected numbers above 0"),
        ("[1.0, 1e9]", "record", "at most 1000"),
        ("3", "none", "3 is neither a word nor a list of numbers"),
        ('[1, "2"]', "none", "'2' is not a number"),
    ):
        assert reason in "\n".join(said(tmp_path, weighed(weights, unit))), weights


def test_a_signal_task_needs_its_calibration_before_anything_begins(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, SIGNAL)).calibration == "quiet.npz"
    assert any(
        line.strip().startswith("calibration: a signal") for line in said(tmp_path, SIGNAL.replace("calibration", "#"))
    )
    assert "quiet.npz: no such file" in "\n".join(said(tmp_path, SIGNAL, files=True))
    personal = SIGNAL.replace("calibration", "#") + '[task.training]\npersonal = "head"\n'
    assert load_config(write(tmp_path, personal)).calibration == "", "no bundle is made of it"
    assert "mlp takes input of shape" in "\n".join(said(tmp_path, SIGNAL.replace("cnn1d", "mlp")))


def test_the_files_that_a_gateway_reads_are_looked_at_with_it(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    load_config(path)  # as on a node, which has none of them
    assert "evaluation.held-out: " in "\n".join(said(tmp_path, GOOD, files=True))
    (tmp_path / "test.csv").write_text("x,y\n1,0\nold,1\n")
    assert "test.csv:3: column 'x': 'old' is not a number" in "\n".join(said(tmp_path, GOOD, files=True))
    (tmp_path / "test.csv").write_text("x,y\n1,0\n2,1\n")
    load_config(path, files=True)
    keras = GOOD.replace('kind = "mlp"\nhidden = [4]', 'kind = "keras"\npath = "m.keras"')
    assert "m.keras: no such file" in "\n".join(said(tmp_path, keras, files=True))
    identity = GOOD.replace("port = 1900", 'broker = "mosquitto"\nidentity = "missing"')
    assert "gateway.identity: " in "\n".join(said(tmp_path, identity, files=True))


def test_values_given_elsewhere_are_checked_as_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("1900", "99999"))
    assert load_config(path, {"port": 1883}).gateway.port == 1883
    with pytest.raises(UsageError, match="did you mean 'mosquitto'"):
        load_config(write(tmp_path, GOOD), {"broker": "mosquito"})


def test_a_config_that_is_no_file_is_checked_alike(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    check_config(replace(config, evaluation={}), tmp_path)
    with pytest.raises(UsageError, match="held-out"):
        check_config(config, tmp_path)


def test_nothing_is_prepared_for_a_file_with_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, SIGNAL.replace("calibration", "#"))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cli.main", "gateway", "run", "edgeward.toml", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "calibration: a signal task needs one" in done.stderr
    assert not (tmp_path / "out").exists()
