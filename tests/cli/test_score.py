"""Encrypted scores: the figures of a plain product, the command line from keys to labels, and who is refused."""

import hashlib
import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

pytest.importorskip("tenseal", reason="TenSEAL has no wheel for this Python")

from model_export.errors import ExportError
from model_export.linear import archived_linear, bundled_linear
from orchestrator.cli import score as score_cli
from orchestrator.cli.main import main
from orchestrator.errors import DataError, PrivacyError, WireError
from orchestrator.privacy import ckks_blocks
from orchestrator.privacy.encrypted_score import PARAMETERS, Client, Server

FEATURES = [
    {"name": "age", "mean": 54.0, "std": 9.0},
    {"name": "trestbps", "mean": 131.0, "std": 18.0},
    *({"name": f"cp={i}", "mean": 0.0, "std": 1.0} for i in (1, 2, 3)),
]
LABELS = ["low", "middle", "high"]
PATIENTS = [{"age": 63, "trestbps": 145, "cp": "1"}, {"age": 41.5, "trestbps": 130, "cp": 2.0}]
STANDARDIZED = np.array([[1.0, 14 / 18, 1, 0, 0], [-12.5 / 9, -1 / 18, 0, 1, 0]])


@pytest.fixture
def client() -> Client:
    return Client.make()


@pytest.fixture
def server(client: Client) -> Server:
    return Server(client.public_context())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles, `linear` and `mlp`, and trained.npy, the weights the first was made of."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(5)
    np.save(folder / "rows.npy", rng.normal(size=(64, 5)).astype(np.float32))
    common = {"input_shape": [5], "classes": 3, "representative": "rows.npy", "labels": LABELS, "features": FEATURES}
    for name, hidden, size in (("linear", [], 18), ("mlp", [4], 39)):
        weights = "trained.npy" if name == "linear" else "mlp.npy"
        np.save(folder / weights, rng.normal(size=size).astype(np.float32))
        spec = {**common, "name": name, "model": {"kind": "mlp", "hidden": hidden}, "weights": weights}
        (folder / f"{name}.json").write_text(json.dumps(spec))
    program = (
        "import sys; from pathlib import Path; from model_export.worker import bundle; here = Path(sys.argv[1]);"
        "[bundle(here / f'{n}.json', here / n) for n in ('linear', 'mlp')]"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, capture_output=True)
    return folder


def score(*words: object) -> int:
    return main(["score", *map(str, words)])


@pytest.mark.parametrize(("records", "features", "classes"), [(1, 30, 2), (682, 13, 6), (4096, 1, 1), (1, 2, 4096)])
def test_logits_are_those_of_a_plain_product(
    client: Client, server: Server, records: int, features: int, classes: int
) -> None:
    rng = np.random.default_rng(records)
    x, kernel, bias = (
        rng.normal(0, 3, (records, features)),
        rng.normal(size=(features, classes)),
        rng.normal(size=classes),
    )
    logits = client.decrypt(server.score(client.encrypt(x, classes), kernel, bias))
    assert np.abs(logits - (x @ kernel + bias)).max() < 1e-6


def test_large_records_and_weights_stay_exact_enough(client: Client, server: Server) -> None:
    x, kernel = np.full((3, 2), 1024.0), np.array([[1000.0, -1000.0], [1.0, 0.0]])
    request = client.encrypt(x, 2)
    logits = client.decrypt(server.score(request, kernel, np.array([7.0, -7.0])))
    assert np.abs(logits - (x @ kernel + [7.0, -7.0])).max() < 1e-6
    with pytest.raises(PrivacyError, match="encrypted scores take up to"):
        server.score(request, 10 * kernel, np.zeros(2))


def test_a_model_of_zeros_is_scored(client: Client, server: Server) -> None:
    logits = client.decrypt(server.score(client.encrypt(np.ones((2, 3)), 2), np.zeros((3, 2)), np.zeros(2)))
    assert np.array_equal(logits, np.zeros((2, 2)))


def test_the_answer_holds_logits_and_nothing_beside_them(client: Client, server: Server) -> None:
    """Not even for a client that puts values into slots it declares no record for."""
    full = client.request.dump(ckks_blocks.encrypt_block(client.context, np.ones(ckks_blocks.SLOTS)))
    request = client.encrypt(np.ones((1, 3)), 2)[:48] + 3 * full
    answer = server.score(request, np.full((3, 2), 5.0), np.ones(2))
    slots = ckks_blocks.decrypt_block(client.context, client.answer.load(answer[48:]))
    assert np.abs(slots[:2] - 16).max() < 1e-6
    assert np.abs(slots[2:]).max() < 1e-6


def test_an_answer_with_more_than_logits_in_it_is_refused(client: Client, server: Server) -> None:
    answer = server.score(client.encrypt(np.ones((2, 1)), 2), np.ones((1, 2)), np.zeros(2))
    single = answer[:36] + (1).to_bytes(4, "little") + answer[40:]  # says it is about one record only
    with pytest.raises(PrivacyError, match="does not decrypt to logits"):
        client.decrypt(single)


def test_the_server_has_no_secret_and_refuses_one(client: Client, server: Server) -> None:
    assert not server.context.is_private()
    with pytest.raises(PrivacyError, match="holds the secret key"):
        Server(b"EWP1" + client.secret_key()[36:])
    for bad in (b"", b"EWP1", client.secret_key(), client.public_context()[:-1], client.public_context()[:500]):
        with pytest.raises(WireError):
            Server(bad)
    with pytest.raises(PrivacyError, match="holds no secret key"):
        ckks_blocks.load_secret(client.public_context()[4:], PARAMETERS)


def test_damaged_requests_and_answers_are_refused(client: Client, server: Server) -> None:
    kernel, bias = np.ones((2, 2)), np.zeros(2)
    request = client.encrypt(np.ones((1, 2)), 2)
    answer = server.score(request, kernel, bias)
    for bad in (
        b"",
        request[:47],
        request[:-1],
        answer,
        b"EWR1" + bytes(60),
        request[:48] + b"\xff" * len(request[48:]),
    ):
        with pytest.raises((WireError, PrivacyError)):
            server.score(bad, kernel, bias)
    with pytest.raises(WireError, match="anybody can read"):
        server.score(request[:48] + bytes(len(request) - 48), kernel, bias)
    for bad in (b"", answer[:-1], request, answer[:48] + b"\xff" * len(answer[48:])):
        with pytest.raises(WireError):
            client.decrypt(bad)
    changed = bytearray(answer)
    changed[100] ^= 1
    with pytest.raises(PrivacyError, match="does not decrypt to logits"):
        client.decrypt(bytes(changed))


def test_the_wrong_key_is_found(client: Client, server: Server) -> None:
    other = Client.make()
    request = other.encrypt(np.ones((1, 2)), 2)
    with pytest.raises(PrivacyError, match="a request for key"):
        server.score(request, np.ones((2, 2)), np.zeros(2))
    answer = Server(other.public_context()).score(request, np.ones((2, 2)), np.zeros(2))
    with pytest.raises(PrivacyError, match="an answer for key"):
        client.decrypt(answer)
    with pytest.raises(PrivacyError, match="does not decrypt to logits"):
        client.decrypt(answer[:4] + client.key_id + answer[36:])
    with pytest.raises(PrivacyError, match="different pairs"):
        Client.from_files(client.secret_key(), other.public_context())


def test_keys_open_one_answer() -> None:
    """A server could ask for the secret key, or for a record, in as many answers as it takes."""
    noted: List[bytes] = []
    made = Client.make()
    client = Client.from_files(made.secret_key(), made.public_context(), note=noted.append)
    server = Server(client.public_context())
    request, kernel = client.encrypt(np.ones((1, 2)), 2), np.ones((2, 2))
    first, second = (server.score(request, kernel, np.zeros(2)) for _ in range(2))
    for bad in (first[:-1], request):
        with pytest.raises(WireError):
            client.decrypt(bad)
    assert not noted  # anybody can see that these are none
    logits = client.decrypt(first)
    assert np.array_equal(client.decrypt(first), logits)
    assert noted == [hashlib.sha256(first).digest()]
    for refuse in (lambda: client.decrypt(second), lambda: client.encrypt(np.ones((1, 2)), 2)):
        with pytest.raises(PrivacyError, match="these keys have opened"):
            refuse()


def test_garbage_counts_as_the_one_answer(client: Client, server: Server) -> None:
    """Whether it was refused is told by what the client does next."""
    answer = server.score(client.encrypt(np.ones((1, 2)), 2), np.ones((2, 2)), np.zeros(2))
    numbers = np.frombuffer(answer[48:], "<u8").copy()
    numbers[len(numbers) // 2 :] += 1  # the secret key, once
    asking = answer[:48] + numbers.tobytes()
    changed = bytearray(answer)
    changed[100] ^= 1
    with pytest.raises(PrivacyError, match="does not decrypt to logits"):
        client.decrypt(bytes(changed))
    for other in (asking, answer):
        with pytest.raises(PrivacyError, match="these keys have opened another answer"):
            client.decrypt(other)


@pytest.mark.slow
def test_what_keys_have_opened_outlives_the_process(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, manifest = tmp_path / "keys", models / "linear"
    (tmp_path / "patients.json").write_text(json.dumps(PATIENTS))
    to_encrypt = ("encrypt", "--key", keys, "--record", tmp_path / "patients.json", "--manifest", manifest)
    assert score("keygen", "--out", keys) == 0
    assert score(*to_encrypt, "-o", tmp_path / "request.enc") == 0
    for name in ("first", "second"):
        run = ("run", "--public", keys / "public.ctx", "--request", tmp_path / "request.enc", "--bundle", manifest)
        assert score(*run, "-o", tmp_path / name) == 0
    decrypt = ("decrypt", "--key", keys, "--manifest", manifest, "--answer")
    assert [score(*decrypt, tmp_path / name) for name in ("first", "first", "second")] == [0, 0, 1]
    assert "these keys have opened another answer" in capsys.readouterr().err
    assert score(*to_encrypt, "-o", tmp_path / "again.enc") == 1
    assert "make new ones for another request" in capsys.readouterr().err


def test_records_that_do_not_fit_are_refused(client: Client, server: Server) -> None:
    with pytest.raises(PrivacyError, match="a request holds 1 to 2048"):
        client.encrypt(np.ones((2049, 1)), 2)
    for value in (1025.0, np.nan):
        with pytest.raises(PrivacyError, match="record 1, feature 2"):
            client.encrypt(np.array([[0.0, value]]), 2)
    with pytest.raises(PrivacyError, match="2 features for 2 classes, the model 3 for 2"):
        server.score(client.encrypt(np.ones((1, 2)), 2), np.ones((3, 2)), np.zeros(2))


def test_from_keys_to_labels(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, request, answer = tmp_path / "keys", tmp_path / "request.enc", tmp_path / "answer.enc"
    assert score("keygen", "--out", keys) == 0
    assert stat.S_IMODE((keys / "secret.key").stat().st_mode) == 0o600
    assert score("keygen", "--out", keys) == 2
    assert "never overwritten" in capsys.readouterr().err

    (tmp_path / "patients.json").write_text(json.dumps(PATIENTS))
    (tmp_path / "patients.csv").write_text("name,cp,age,trestbps\nann,1,63,145\nbob,02,41.5,130\n")
    model = bundled_linear(models / "linear")
    float_model = archived_linear(models / "trained.npy", models / "linear")
    server = tmp_path / "server"
    server.mkdir()
    shutil.copy(keys / "public.ctx", server)  # and nothing else
    for suffix, options, used in (
        ("json", ["--bundle", models / "linear"], model),
        ("csv", ["--bundle", models / "linear", "--weights", models / "trained.npy"], float_model),
    ):
        if suffix == "csv":
            keys = tmp_path / "more keys"
            assert score("keygen", "--out", keys) == 0
            shutil.copy(keys / "public.ctx", server)
        manifest = models / "linear" / "manifest.json"
        record = tmp_path / f"patients.{suffix}"
        for path in (request, answer):
            path.unlink(missing_ok=True)
        assert score("encrypt", "--key", keys, "--record", record, "--manifest", manifest, "-o", request) == 0
        assert score("run", "--public", server / "public.ctx", "--request", request, *options, "-o", answer) == 0
        capsys.readouterr()
        assert score("decrypt", "--key", keys, "--answer", answer, "--manifest", models / "linear", "--json") == 0
        scored = json.loads(capsys.readouterr().out)
        right = STANDARDIZED @ used.kernel + used.bias
        assert np.abs(np.array([one["logits"] for one in scored]) - right).max() < 1e-6
        softmax = np.exp(right) / np.exp(right).sum(axis=1, keepdims=True)
        assert np.allclose([[one["probabilities"][name] for name in LABELS] for one in scored], softmax, atol=1e-6)
        assert [one["label"] for one in scored] == [LABELS[i] for i in right.argmax(axis=1)]
    assert score("decrypt", "--key", keys, "--answer", answer, "--manifest", models / "linear") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["record", "label", *LABELS]
    assert shown[1].split() == ["1", scored[0]["label"], *(f"{p:.4f}" for p in softmax[0])]

    assert score("keygen", "--out", tmp_path / "other") == 0
    assert score("decrypt", "--key", tmp_path / "other", "--answer", answer, "--manifest", models / "linear") == 1
    assert "an answer for key" in capsys.readouterr().err
    answer.unlink()
    assert (
        score("run", "--public", keys / "secret.key", "--request", request, "--bundle", models / "linear", "-o", answer)
        == 1
    )
    assert "no public context" in capsys.readouterr().err
    assert score("run", "--public", keys / "public.ctx", "--request", request, "-o", answer) == 2


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"age": 63, "cp": "1"}, "record 1: column 'trestbps' is missing"),
        ({"age": "old", "trestbps": 1, "cp": "1"}, "column 'age' is 'old', not a finite number"),
        ({"age": 63, "trestbps": float("nan"), "cp": "1"}, "column 'trestbps' is nan"),
        ({"age": 63, "trestbps": 145, "cp": "9"}, "column 'cp' is '9'; accepted: 1, 2, 3"),
        ({"age": 63, "trestbps": 145}, "column 'cp' is None; accepted: 1, 2, 3"),
        ([], "no record in it"),
        (7, "is int, must be an object"),
    ],
)
def test_a_record_that_does_not_fit_names_the_column(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], record: Any, complaint: str
) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    options = ["--key", tmp_path, "--manifest", models / "linear", "-o", tmp_path / "out"]
    assert score("encrypt", "--record", path, *options) == 2
    assert complaint in capsys.readouterr().err


def test_float_weights_are_those_of_the_bundle(models: Path, tmp_path: Path) -> None:
    flat = np.load(models / "trained.npy")
    model = archived_linear(models / "trained.npy", models / "linear")
    assert np.array_equal(model.kernel, flat[:15].reshape(5, 3).astype(np.float64))
    np.savez(tmp_path / "own.npz", kernel=model.kernel, bias=model.bias)
    assert np.array_equal(archived_linear(tmp_path / "own.npz").kernel, model.kernel)
    assert np.array_equal(archived_linear(tmp_path / "own.npz", models / "linear").bias, model.bias)


def test_what_is_no_linear_model_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="not a linear model, but FULLY_CONNECTED > FULLY_CONNECTED > SOFTMAX"):
        bundled_linear(models / "mlp")
    damaged = tmp_path / "damaged"
    shutil.copytree(models / "linear", damaged)
    content = bytearray((damaged / "model.tflite").read_bytes())
    content[-1] ^= 1
    (damaged / "model.tflite").write_bytes(content)
    with pytest.raises(ExportError, match="was changed or damaged"):
        bundled_linear(damaged)

    flat = np.load(models / "trained.npy")
    cases: List[Dict[str, Any]] = [
        {"array": flat[::-1], "match": "not the weights this bundle"},
        {"array": flat + np.eye(18)[17] * 0.1, "match": "not the weights this bundle"},
        {"array": flat[:-1], "match": "the bundle's model has 18"},
    ]
    for case in cases:
        np.save(tmp_path / "other.npy", case["array"])
        with pytest.raises(ExportError, match=case["match"]):
            archived_linear(tmp_path / "other.npy", models / "linear")
    with pytest.raises(ExportError, match="has no shape of its own"):
        archived_linear(models / "trained.npy")
    np.savez(tmp_path / "half.npz", kernel=np.ones((2, 2)))
    with pytest.raises(ExportError, match="holds no 'bias'"):
        archived_linear(tmp_path / "half.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ExportError, match="cannot be read"):
        archived_linear(tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cp;age\n1;63\n", "p.csv:1: values are separated by semicolons"),
        ("age,cp,age\n1,1,63\n", "p.csv:1: column 'age' occurs twice"),
        ("age,cp\n63,1,9\n", "p.csv:2: 3 values, the first line names 2 columns"),
        ("age,cp\n'63,1\n", "p.csv:2: column 'age' is \"'63\", not a finite number; take out"),
        ("PK\x03\x04", "p.csv: a zip archive"),
    ],
)
def test_records_in_a_file_that_is_read_otherwise(tmp_path: Path, text: str, reason: str) -> None:
    """Of a column named twice no value was the one that counted."""
    (tmp_path / "p.csv").write_text(text)

    def encode() -> None:
        for where, record in score_cli.read_records(tmp_path / "p.csv", ["age", "cp"]):
            score_cli.encode_record(where, record, [{"name": "age"}, {"name": "cp=1"}])

    with pytest.raises(DataError, match=re.escape(reason)):
        encode()


def test_records_with_spaces_and_lines_in_quotes(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(' age , cp ,note\n 63 , 1 ,"one\ntwo"\n\n')
    rows = score_cli.read_records(tmp_path / "p.csv", ["age", "cp"])
    assert [score_cli.encode_record(*row, [{"name": "age"}, {"name": "cp=1"}]) for row in rows] == [[63.0, 1.0]]


def test_a_file_for_the_other_side_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("nothing of the kind")
    words = ["score", "run", "--public", "x", "--request", "x", "--bundle", "none", "-o", "y"]
    assert main([word if word != "x" else str(tmp_path / "x") for word in words]) == 1
    assert f"edgeward: {tmp_path / 'x'}: this is no public context" in capsys.readouterr().err


def test_nothing_is_encrypted_for_a_model_that_is_not_linear(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text("a\n1\n")
    words = ["--record", tmp_path / "p.csv", "--manifest", models / "mlp", "--key", tmp_path, "-o", tmp_path / "y"]
    assert main(["score", "encrypt", *map(str, words)]) == 2
    assert "not of a linear model, but 2 FULLY_CONNECTED, 1 SOFTMAX" in capsys.readouterr().err
