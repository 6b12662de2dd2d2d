"""`edgeward similar` from a result to neighbours, with two owners' files and states; and what each step refuses."""

import json
import stat
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from orchestrator.analyses.base import Total
from orchestrator.analyses.codes import read_coder
from orchestrator.analyses.registry import analysis_of
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.main import main
from orchestrator.data.dataset import load_dataset
from orchestrator.gateway.analysed import report_of
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.coder import coder_of_result
from orchestrator.gateway.config import load_config
from orchestrator.node.anchor import StoreAnchor
from orchestrator.node.identity import NodeIdentity, install, make_node_request
from orchestrator.node.ledger import LEDGER_FILE, Ledger
from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore
from orchestrator.privacy.similar_files import read_answer, write_answer
from orchestrator.wire.pki import key_fingerprint

pytestmark = pytest.mark.slow

CONFIG = """
[gateway]
federation = "similar"
[task]
name = "coder"
[task.analysis]
kind = "hashing"
outcome = "ill"
bits = 16
[task.schema]
kind = "table"
features = [
  { name = "age", minimum = 0, maximum = 100 },
  { name = "weight", minimum = 30, maximum = 200 },
  { name = "sex", categories = ["f", "m"] },
  { name = "ill", categories = ["no", "yes"] },
]
[task.privacy]
unit = "none"
[task.aggregation]
method = "masked"
[task.rounds]
nodes = 3
quorum = 3
"""


def said(capsys: pytest.CaptureFixture[str], *words: object) -> Tuple[int, str, str]:
    code = main(["similar", *map(str, words)])
    found = capsys.readouterr()
    return code, found.out, found.err


class Owners:
    """Two of them, a and b, in a folder, with a coder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "edgeward.toml").write_text(CONFIG)
        draw = np.random.default_rng(3)
        for name, size in (("a", 30), ("b", 60)):
            lines = ["age,weight,sex,ill"]
            for _ in range(size):
                ill = draw.random() < 0.5
                age = "" if draw.random() < 0.1 else f"{draw.normal(65 if ill else 40, 8):.1f}"
                lines.append(f"{age},{draw.normal(75, 10):.1f},{draw.choice(['f', 'm'])},{'yes' if ill else 'no'}")
            (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
            state = folder / f"state-{name}"
            state.mkdir()
            store = NodeStore(state / "node.sqlite")
            Ledger(state / LEDGER_FILE, [StoreAnchor(store)]).close()
            store.close()
        self.write_result()
        self.policy("distances")

    def write_result(self) -> None:
        """As a gateway has it after the run (tests/e2e/test_analyses.py has one)."""
        task = load_config(self.folder / "edgeward.toml").task
        analysis, state = analysis_of(task), {}
        data = [load_dataset(self.folder / f"{name}.csv", task.schema, gaps=True) for name in ("a", "b")]
        asked = analysis.begin(0)
        for _ in range(analysis.rounds):
            sums = sum(analysis.vectors(analysis.question(asked), each.x).sum(axis=0) for each in data)
            asked, folded = analysis.fold(asked, Total(sums))
            state.update(folded.state)
        result = {"analysis": report_of(analysis.result(state, "records"), task)}
        (self.folder / "result.json").write_text(json.dumps(result))

    def digest(self) -> str:
        """Of the coder."""
        task = load_config(self.folder / "edgeward.toml").task
        return coder_of_result(task, (self.folder / "result.json").read_bytes(), "result.json").digest

    def policy(self, show: str, queries: int = 9, a_day: int = 9, who: str = "", coder: str = "") -> None:
        text = f'[similar]\nshow = "{show}"\nwithin = 4\nepsilon_count = 8.0\nqueries = {queries}\na_day = {a_day}\n'
        text += f'coders = ["{coder or self.digest()}"]\n'
        (self.folder / "policy.toml").write_text(f'{text}[similar.queriers]\na = "{who or self.fingerprint("a")}"\n')

    def fingerprint(self, name: str) -> str:
        store = NodeStore(self.folder / f"state-{name}" / "node.sqlite")
        try:
            return Peers("", store).fingerprint
        finally:
            store.close()

    def ledger(self) -> List[Dict[str, Any]]:
        """What b's has."""
        ledger = Ledger(self.folder / "state-b" / LEDGER_FILE)
        try:
            return ledger.entries()
        finally:
            ledger.close()

    def coder(self) -> List[object]:
        return ["coder", "edgeward.toml", "--result", "result.json", "--out", "coder.json"]

    def ask(self, *lines: int, name: str = "") -> List[object]:
        files = ["--coder", "coder.json", "--key", f"key{name}", "--out", f"question{name}.bin"]
        return ["ask", "a.csv", *files, "--name", "a", "--state", "state-a", "--rows", *lines]

    def answer(self, name: str = "", data: str = "b.csv") -> List[object]:
        files = ["--coder", "coder.json", "--question", f"question{name}.bin", "--out", f"answer{name}.bin"]
        return ["answer", data, *files, "--name", "b", "--state", "state-b", "--policy", "policy.toml"]

    def read(self, name: str = "", answer: str = "", *more: object) -> List[object]:
        files = ["--coder", "coder.json", "--key", f"key{name}", "--question", f"question{name}.bin"]
        return ["read", *files, "--answer", f"answer{answer or name}.bin", *more]

    def distances(self, line: int, of: str = "b.csv") -> Dict[str, Dict[int, int]]:
        """Label -> distance -> patients, in the clear."""
        coder = read_coder((self.folder / "coder.json").read_bytes(), "coder.json")
        asked, searched = (load_dataset(self.folder / name, coder.schema, gaps=True) for name in ("a.csv", of))
        code, codes = (coder.codes(each.x, coder.schema) for each in (asked, searched))
        found: Dict[str, Dict[int, int]] = {"no": {}, "yes": {}}
        for level, distance in zip(coder.levels(searched.x), (codes != code[line - 2]).sum(axis=1)):
            by_distance = found[coder.classes[level]]
            by_distance[int(distance)] = by_distance.get(int(distance), 0) + 1
        return found


@pytest.fixture
def owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Owners:
    monkeypatch.chdir(tmp_path)
    return Owners(tmp_path)


def test_neighbours_are_those_of_plain_codes(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, *owners.coder())[0] == 0
    code, out, _ = said(capsys, *owners.ask(4, 9), "--json")
    assert (code, json.loads(out)["patients"]) == (0, 2)
    assert stat.S_IMODE((owners.folder / "key").stat().st_mode) == 0o600
    code, out, _ = said(capsys, *owners.answer(), "--json")
    assert (code, json.loads(out)["querier"]) == (0, "a")
    code, out, _ = said(capsys, *owners.read(), "--owner", owners.fingerprint("b"), "--nearest", 3, "--json")
    assert code == 0
    report = json.loads(out)
    found: Dict[Any, int] = {(e["patient"], e["label"], e["distance"]): e["patients"] for e in report["found"]}
    expected = {}
    for patient, line in enumerate((4, 9), 1):
        for label, by_distance in owners.distances(line).items():
            expected.update({(patient, label, d): n for d, n in by_distance.items() if d <= 4})
    assert found == expected
    assert len(found) > 3
    assert {each["owner"] for each in report["found"]} == {"b"}
    assert all(sum(each["shares"].values()) == pytest.approx(1) for each in report["nearest"] if each["shares"])
    code, out, _ = said(capsys, *owners.read(), "--nearest", 3, "--own", "b.csv")
    assert code == 0
    assert f"b {owners.fingerprint('b')[:16]}" in out, "a name alone could be another owner's"
    again = json.loads(said(capsys, *owners.read(), "--nearest", 500, "--own", "b.csv", "--json")[1])["nearest"]
    for patient, line in enumerate(again, 1):
        near = sum(n for (asked, _, _), n in expected.items() if asked == patient)
        assert line["nearest"] == 2 * near, "own patients that are farther than owners show are not nearer than theirs"
    assert "nearest within 4 bits: no" in out, "owners show no farther, where others may be nearer than one's own"


def test_counts_are_those_of_plain_codes_within_their_noise(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    owners.policy("counts")
    assert [said(capsys, *words)[0] for words in (owners.coder(), owners.ask(4), owners.answer())] == [0, 0, 0]
    code, out, _ = said(capsys, *owners.read(), "--json")
    assert code == 0
    for line in json.loads(out)["found"]:
        plain = sum(n for d, n in owners.distances(4)[line["label"]].items() if d <= 4)
        assert line["distance"] is None
        assert abs(line["patients"] - plain) <= 2, "what noise of epsilon 8 can do at most"
    code, _, err = said(capsys, *owners.read(), "--nearest", 3)
    assert code != 0
    assert "shows counts" in err
    code, out, _ = said(capsys, *owners.read())
    assert "±" in out


def test_who_may_not_ask_learns_nothing_and_no_data_are_opened(
    owners: Owners, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, *owners.coder())
    for name in ("", "2"):
        assert said(capsys, *owners.ask(4, 9, name=name))[0] == 0
    opened: List[str] = []
    monkeypatch.setattr("orchestrator.node.searches.load_dataset", lambda path, *_, **__: opened.append(str(path)))
    for change, why in (
        ({"show": "nothing"}, "lets nobody search"),
        ({"show": "counts", "who": "0" * 64}, "nobody with the key"),
        ({"show": "counts", "coder": "0" * 64}, "coders: "),
        ({"show": "counts", "queries": 1}, "queries: 1 in all"),
        ({"show": "counts", "a_day": 1}, "a_day: 1 in 24 hours"),
    ):
        owners.policy(**change)
        code, _, err = said(capsys, *owners.answer())
        assert code != 0
        assert why in err
        assert not (owners.folder / "answer.bin").exists()
    assert opened == []


def test_a_budget_that_is_spent_stays_spent(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    owners.policy("distances", queries=3)
    said(capsys, *owners.coder())
    for name in ("", "2"):
        assert said(capsys, *owners.ask(4, 9, name=name))[0] == 0
    assert said(capsys, *owners.answer())[0] == 0
    (owners.folder / "answer.bin").unlink()
    code, _, err = said(capsys, *owners.answer())
    assert code != 0
    assert "answered before" in err
    code, _, err = said(capsys, *owners.answer("2"))
    assert code != 0
    assert "it has asked about 2 patients, and now asks about 2" in err


def test_a_querier_is_called_what_the_owner_calls_it_and_its_searches_are_shown(
    owners: Owners, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, *owners.coder())
    words = ["icu-of-others" if word == "a" else word for word in owners.ask(4, 9)]
    assert said(capsys, *words)[0] == 0
    code, out, err = said(capsys, *owners.answer())
    assert code == 0, err
    assert "of 2 patients of a, " in out
    assert "icu-of-others" not in out
    main(["node", "ledger", "--state", "state-b"])
    assert f"1 question about 2 patients by {owners.fingerprint('a')}" in capsys.readouterr().out
    main(["node", "ledger", "--state", "state-b", "--json"])
    found = json.loads(capsys.readouterr().out)["searches"]
    assert found == [{"querier": owners.fingerprint("a"), "questions": 1, "patients": 2}]


def test_a_data_file_that_does_not_fit_spends_no_question(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, *owners.coder())
    said(capsys, *owners.ask(4))
    (owners.folder / "d.csv").write_text("age,weight,sex\n50,70,f\n")
    for name, why, entries in (("c.csv", "no such file", 1), ("d.csv", "no column 'ill'", 2)):
        code, _, err = said(capsys, *owners.answer(data=name))
        assert code != 0
        assert why in err
        assert len(owners.ledger()) == entries
    code, _, err = said(capsys, *owners.answer())
    assert code == 0, err
    assert sum(entry.get("patients", 0) for entry in owners.ledger()) == 1


def test_an_answer_that_breaks_off_in_its_ciphertexts_is_named(
    owners: Owners, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several owners one that answers nonsense, signed, should be known."""
    said(capsys, *owners.coder())
    said(capsys, *owners.ask(4))
    said(capsys, *owners.answer())
    answer = read_answer((owners.folder / "answer.bin").read_bytes())
    store = NodeStore(owners.folder / "state-b" / "node.sqlite")
    kept = ("question", "coder", "bits", "show", "within", "epsilon", "shift")
    heads = {name: getattr(answer, name) for name in kept}
    nothing = [bytes(len(block)) for block in answer.blocks]
    forged = write_answer(answer.party, heads, answer.groups, nothing, Peers("b", store).sign)
    store.close()
    (owners.folder / "answer2.bin").write_bytes(forged)
    code, _, err = said(capsys, *owners.read("", "2"))
    assert code != 0
    assert "answer2.bin: a block that anybody can read" in err


def test_what_was_changed_or_belongs_elsewhere_is_named(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, *owners.coder())
    for name in ("", "2"):
        assert said(capsys, *owners.ask(4, name=name))[0] == 0
        assert said(capsys, *owners.answer(name))[0] == 0
    question, answer = ((owners.folder / name).read_bytes() for name in ("question.bin", "answer.bin"))
    for words, why in (
        (owners.read("", "2"), "another question"),
        (["answer.bin" if word == "answer2.bin" else word for word in owners.read("2")], "another question"),
        ([*owners.read(), "--owner", "0" * 64], "which is not one of --owner"),
        (["key2" if word == "key" else word for word in owners.read()], "belong to different pairs"),
        ([*owners.read(), "answer.bin"], "of the same owner"),
        (owners.answer("3"), "No such file"),
        (owners.ask(400, name="4"), "no record in line 400"),
        (owners.ask(4, 5, 4, name="4"), "line 4 is there twice"),
        (owners.ask(4), "exists"),
    ):
        code, _, err = said(capsys, *words)
        assert code != 0
        assert why in err, err
    for place in (len(question) // 2, 400_000):
        damaged = bytearray(question)
        damaged[place] ^= 1
        (owners.folder / "question3.bin").write_bytes(damaged)
        code, _, err = said(capsys, *owners.answer("3"))
        assert code != 0
        assert "signature" in err
    (owners.folder / "answer3.bin").write_bytes(answer[:-100] + bytes(100))
    code, _, err = said(capsys, *owners.read("", "3"))
    assert code != 0
    assert "edgeward: " in err


def test_nodes_with_an_identity_ask_and_answer_by_their_certificates(
    owners: Owners, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority.create(owners.folder / "ca", "similar", [])
    for name in ("a", "b"):
        folder = owners.folder / f"id-{name}"
        install(folder, authority.sign(make_node_request(folder, name, "similar"), name))
    key = NodeIdentity(owners.folder / "id-a").for_peers()[1].public_key()
    owners.policy("distances", who=key_fingerprint(key))
    said(capsys, *owners.coder())
    assert said(capsys, *owners.ask(4), "--identity", "id-a")[0] == 0
    code, _, err = said(capsys, *owners.answer())  # without the authority nobody's certificate can be read
    assert code != 0
    assert "the key of a is invalid" in err
    code, _, err = said(capsys, *owners.answer(), "--identity", "id-b")
    assert code == 0, err
    code, out, err = said(capsys, *owners.read(), "--identity", "id-a", "--json")
    assert code == 0, err
    assert {each["owner"] for each in json.loads(out)["found"]} == {"b"}


def test_a_result_of_another_schema_makes_no_coder(owners: Owners, capsys: pytest.CaptureFixture[str]) -> None:
    text = (owners.folder / "edgeward.toml").read_text()
    (owners.folder / "edgeward.toml").write_text(text.replace("maximum = 100", "maximum = 110"))
    code, _, err = said(capsys, *owners.coder())
    assert code != 0
    assert "of another schema" in err
    (owners.folder / "edgeward.toml").write_text(text)
    for content in ("", "{}", '{"analysis": {"tables": [], "notes": []}}', "[" * 50_000):
        (owners.folder / "result.json").write_text(content)
        code, _, err = said(capsys, *owners.coder())
        assert code != 0
        assert "no result of an analysis" in err
    assert COMMANDS["similar"]
