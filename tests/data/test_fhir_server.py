"""A FHIR server's search as a table, over real HTTP: pages give what files with the same resources give; a lie is named."""

import datetime
import gzip
import ipaddress
import json
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fhir_samples import (
    AGE,
    DIABETES,
    DIABETIC,
    ID,
    SNOMED,
    Resource,
    condition,
    described,
    export,
    measured,
    observation,
    patient,
    quantity,
    table_of,
)

from orchestrator.data.sources import fhir_server
from orchestrator.errors import DataError


class Answer:
    """What the server says to one request. parts: its body, sent one after the other with a pause before each."""

    def __init__(self, body: Any, status: int = 200, pause_s: float = 0.0, **headers: str) -> None:
        content = body if isinstance(body, (bytes, list)) else json.dumps(body).encode()
        self.parts: Any = content if isinstance(content, list) else [content]
        self.status, self.pause_s = status, pause_s
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(content, list):
            self.headers.setdefault("Content-Length", str(len(content)))


class FhirServer:
    """answer: (path with its query) -> what is said. asked: (path, headers) of every request."""

    def __init__(self) -> None:
        self.answer: Callable[[str], Answer] = lambda path: Answer({}, 404)
        self.asked: List[Any] = []
        self.stopping = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                said = outer.answer(self.path)
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for part in said.parts:
                        if outer.stopping.wait(said.pause_s):
                            return
                        self.wfile.write(part)
                        self.wfile.flush()
                except OSError:
                    pass  # the other side has heard enough

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_address[1]}/r4"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def certified(self, folder: Path) -> Path:
        """Speaks TLS from now on, with a certificate for 127.0.0.1 that only the file returned vouches for."""
        key, name = (
            ec.generate_private_key(ec.SECP256R1()),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fhir")]),
        )
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(
            now + datetime.timedelta(days=1)
        )
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = builder.add_extension(address, False).sign(key, hashes.SHA256())
        path, pem = folder / "server.pem", serialization.Encoding.PEM
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(certificate.public_bytes(pem))
        (folder / "server.key").write_bytes(secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path, folder / "server.key")
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.base = self.base.replace("http:", "https:")
        return path

    def close(self) -> None:
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[FhirServer]:
    made = FhirServer()
    yield made
    made.close()


def bundle(resources: List[Resource], following: Any = None, **said: Any) -> Dict[str, Any]:
    links = [{"relation": "self", "url": "http://elsewhere/x"}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    entries = [{"fullUrl": "x", "resource": each, "search": {"mode": "match"}} for each in resources]
    return {"resourceType": "Bundle", "type": "searchset", "total": 7, "link": links, "entry": entries, **said}


def paged(server: FhirServer, known: Dict[str, List[Resource]], size: int = 3) -> Callable[[str], Answer]:
    """A search as servers have it: of a type, by codes, in pages behind opaque links."""

    def answer(path: str) -> Answer:
        parts = urlsplit(path)
        said, kind = {key: values[0] for key, values in parse_qs(parts.query).items()}, parts.path.split("/")[-1]
        if kind not in known:
            return Answer({"resourceType": "OperationOutcome", "issue": [{"diagnostics": "no such type"}]}, 404)
        found, wanted = known[kind], said.get("code", said.get("vaccine-code"))
        if wanted:
            tokens = [tuple(each.split("|")) for each in wanted.split(",")]
            field = "medicationCodeableConcept" if kind == "MedicationRequest" else "code"
            found = [
                each
                for each in found
                if any((code["system"], code["code"]) in tokens for code in each[field]["coding"])
                or any((code["code"],) in tokens for code in each[field]["coding"])
            ]
        begin = int(said.get("page", 0))
        following = f"{server.base}/{kind}?{parts.query.split('&page=')[0]}&page={begin + size}"
        return Answer(bundle(found[begin : begin + size], following if begin + size < len(found) else None))

    return answer


def rows(tmp_path: Path, server: FhirServer, columns: Any = (ID, DIABETIC), **said: Any) -> List[List[str]]:
    return table_of(described(tmp_path / "w.toml", list(columns), server=server.base, **said))[1:]


def test_pages_give_what_the_export_gives(
    tmp_path: Path, server: FhirServer, shared_data: Callable[[str], Path]
) -> None:
    folder = shared_data("fhir-synthea")
    kinds = ("Patient", "Condition", "MedicationRequest")
    server.answer = paged(
        server,
        {kind: [json.loads(line) for line in (folder / f"{kind}.ndjson").read_text().splitlines()] for kind in kinds},
    )
    columns: List[Dict[str, Any]] = [
        *(ID, AGE, DIABETIC),
        {"name": "others", "from": "Condition", "codes": ["160903007", "73595000"], "take": "count"},
        {"name": "requests", "from": "MedicationRequest", "code": "314076", "take": "count"},
    ]
    plain = described(tmp_path / "f.toml", columns, folder=str(folder))
    found = rows(tmp_path, server, columns, page_size=3)
    assert found == table_of(plain)[1:]
    assert {row[2] for row in found} == {"0", "1"}
    assert len({row[3] for row in found}) > 3
    first = next(parse_qs(urlsplit(path).query) for path, _ in server.asked if "/Condition" in path)
    assert first == {"_count": ["3"], "code": [f"{SNOMED}|{DIABETES},160903007,73595000"]}
    assert len(server.asked) > 20


def test_values_come_the_same_way(tmp_path: Path, server: FhirServer) -> None:
    many = [
        observation(f"o{n}", f"p{n % 4}", f"2026-01-{n + 1:02d}", valueQuantity=quantity(4 + n / 7)) for n in range(20)
    ]
    known = {"Patient": [patient(f"p{n}") for n in range(5)], "Observation": many}
    columns = [ID, measured("last", unit="%"), {**measured("mean", unit="%"), "name": "mean"}]
    server.answer = paged(server, known)
    folder = export(tmp_path / "export", **known)
    assert rows(tmp_path, server, columns) == table_of(described(tmp_path / "f.toml", columns, folder=folder.name))[1:]
    many[4]["valueQuantity"]["code"] = "mmol/mol"
    with pytest.raises(
        DataError, match=r"127\.0\.0\.1:\d+/r4/Observation: page 2, entry 2: column 'hba1c': unit 'mmol/mol'"
    ):
        rows(tmp_path, server, columns[:2])


def test_other_entries_are_no_matches(tmp_path: Path, server: FhirServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    warning = {"resourceType": "OperationOutcome", "issue": [{"severity": "warning"}]}
    page = bundle([patient("a")])
    page["entry"] += [
        {"resource": warning, "search": {"mode": "outcome"}},
        {"resource": warning},
        {"resource": patient("b"), "search": {"mode": "include"}},
        {"resource": patient("c")},
        {"resource": patient("a")},
    ]
    server.answer = lambda path: Answer(page)
    assert rows(tmp_path, server, [ID]) == [["a"], ["c"]]
    assert "1 Patient repeated" in caplog.text


def test_absolute_references_to_the_same_server(tmp_path: Path, server: FhirServer) -> None:
    said = condition("c", "a", subject={"reference": f"{server.base}/Patient/a"})
    server.answer = paged(server, {"Patient": [patient("a")], "Condition": [said]})
    assert rows(tmp_path, server) == [["a", "1"]]
    said["subject"]["reference"] = "http://other/r4/Patient/a"
    with pytest.raises(DataError, match="names no patient here"):
        rows(tmp_path, server)


def test_special_characters_of_a_code(tmp_path: Path, server: FhirServer) -> None:
    server.answer = paged(server, {"Patient": [patient("a")], "Condition": []})
    rows(tmp_path, server, [ID, {**DIABETIC, "code": "a,b|c$&", "system": "http://x?y=1&z"}])
    asked = parse_qs(urlsplit(server.asked[-1][0]).query)
    assert asked["code"] == ["http://x?y=1&z|a\\,b\\|c\\$&"]  # hl7.org/fhir/R4/search.html#escaping


def test_a_token_is_sent_and_kept_secret(tmp_path: Path, server: FhirServer) -> None:
    token = tmp_path / "token"
    token.write_text("abc.DEF-1~2+3/4==\n")
    token.chmod(0o600)
    server.answer = paged(server, {"Patient": [patient("a")]})
    assert rows(tmp_path, server, [ID], token="token") == [["a"]]
    assert server.asked[0][1]["Authorization"] == "Bearer abc.DEF-1~2+3/4=="
    token.chmod(0o640)
    with pytest.raises(DataError, match=r"token: others can read the bearer token in it: chmod 600"):
        rows(tmp_path, server, [ID], token="token")
    token.chmod(0o600)
    token.write_text("abc def\n")
    with pytest.raises(DataError, match=r"token: no bearer token") as caught:
        rows(tmp_path, server, [ID], token="token")
    assert "abc" not in str(caught.value)
    assert len(server.asked) == 1, "nothing was asked with a wrong one"


def test_no_token_where_none_is_declared(tmp_path: Path, server: FhirServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answer = paged(server, {"Patient": [patient("a")]})
    assert rows(tmp_path, server, [ID]) == [["a"]]
    assert "Authorization" not in server.asked[0][1]


@pytest.mark.parametrize("lead", ["next", "redirect"])
def test_nothing_is_sent_to_another_place(tmp_path: Path, server: FhirServer, lead: str) -> None:
    other = FhirServer()
    token = tmp_path / "token"
    token.write_text("abc\n")
    token.chmod(0o600)
    try:
        where = f"{other.base}/Patient?page=2"
        redirect, page = Answer(b"", 307, Location=where), Answer(bundle([patient("a")], where))
        server.answer = lambda path: redirect if lead == "redirect" else page
        with pytest.raises(DataError, match=r"leads to 'http://127\.0\.0\.1:\d+/r4/Patient\?page=2'"):
            rows(tmp_path, server, [ID], token="token")
        assert other.asked == []
        assert len(server.asked) == 1
    finally:
        other.close()


@pytest.mark.parametrize(
    "following",
    [
        "http://localhost:{port}/r4/Patient?page=2",
        "https://127.0.0.1:{port}/r4/Patient?page=2",
        "http://me@127.0.0.1:{port}/r4/Patient?page=2",
        "//evil.example/x",
        "file:///etc/passwd",
        "http://127.0.0.1:{port}/r4/Pat ient",
        "http://127.0.0.1:99999/",
        "http://[/",
    ],
)
def test_a_next_link_to_another_origin(tmp_path: Path, server: FhirServer, following: str) -> None:
    port = urlsplit(server.base).port
    server.answer = lambda path: Answer(bundle([patient("a")], following.format(port=port)))
    with pytest.raises(DataError, match="its `next` leads to .*nothing is sent there"):
        rows(tmp_path, server, [ID])
    assert len(server.asked) == 1


def test_a_relative_next_link(tmp_path: Path, server: FhirServer) -> None:
    last, more = Answer(bundle([patient("b")])), f"?more={'1' * 4000}"  # some servers keep their state in it
    server.answer = lambda path: last if "more" in path else Answer(bundle([patient("a")], more))
    assert rows(tmp_path, server, [ID]) == [["a"], ["b"]]
    assert server.asked[1][0] == f"/r4/Patient{more}"


def test_pages_without_an_end(tmp_path: Path, server: FhirServer) -> None:
    server.answer = lambda path: Answer(bundle([], f"?page={len(server.asked)}"))
    with pytest.raises(DataError, match="Patient: more than 5 pages; raise `pages` if there are so many"):
        rows(tmp_path, server, [ID], pages=5)
    assert len(server.asked) == 5
    server.answer = lambda path: Answer(bundle([patient("a")], "?page=1"))
    with pytest.raises(DataError, match="leads back to a page that was read"):
        rows(tmp_path, server, [ID])


def slow(body: bytes) -> Answer:
    return Answer([bytes((byte,)) for byte in body], pause_s=0.05)


LIES: Dict[str, Any] = {
    "500": (
        Answer({"resourceType": "OperationOutcome", "issue": [{"diagnostics": "out of\nluck"}]}, 500),
        r"answered 500 \('out of",
    ),
    "401": (Answer(b"", 401), "answered 401: asks who is asking; `token` names"),
    "403": (Answer(b"<html>", 403), "answered 403: does not let this token"),
    "404": (Answer(b"", 404), "answered 404: has no such search"),
    "204": (Answer(b"", 204), "answered 204"),
    "a login page": (Answer(b"<html>login</html>"), "the page is no JSON"),
    "a list": (Answer([b"[1]"]), "the page is no JSON object"),
    "deep": (Answer(b"[" * 100_000), "nested too deeply"),
    "a resource": (Answer(patient("a")), "the page is 'Patient', expected a Bundle"),
    "a document": (Answer(bundle([], type="document")), "a Bundle of type 'document', expected searchset"),
    "entries that are none": (Answer(bundle([], entry={"a": 1})), "entry is no list"),
    "links that are none": (Answer(bundle([], link="next")), "link is no list"),
    "two ways on": (Answer(bundle([], link=[{"relation": "next", "url": "?a"}] * 2)), "several links `next`"),
    "a way on that is none": (Answer(bundle([], 3)), "a link `next` that is no address"),
    "a very long way on": (Answer(bundle([], "?" + "x" * 20_000)), "a link `next` that is no address"),
    "a failure inside": (
        Answer(
            bundle([], entry=[{"resource": {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "broken"}]}}])
        ),
        r"reports a failure in its page \('broken'\)",
    ),
    "another type": (
        Answer(bundle([condition("c", "a")])),
        ": page 1, entry 1: is a resource of type 'Condition'",
    ),
    "an entry that is none": (
        Answer(bundle([], entry=[{"resource": 3}])),
        ": page 1, entry 1: resource is no object",
    ),
    "a page cut off": (Answer(json.dumps(bundle([])).encode(), Content_Length="9999"), "ends .* early"),
    "chunks cut off": (Answer([b"5\r\n{"], Transfer_Encoding="chunked"), "IncompleteRead"),
    "packed": (
        Answer(gzip.compress(bytes(1 << 22)), Content_Encoding="gzip"),
        "a page packed with 'gzip', which was not asked for, is not unpacked",
    ),
    "a huge page": (Answer([b"x" * (1 << 15)] * 64), "a page of more than 1 MiB; lower `page_size`"),
    "a slow trickle": (slow(b" " * 400), r"no whole page within 0\.3 s \(timeout_s\)"),
    "silence": (Answer([b"x"], pause_s=5), r"no whole page within 0\.3 s"),
}


@pytest.mark.parametrize("what", LIES)
def test_a_server_that_fails_or_lies_is_named(
    tmp_path: Path, server: FhirServer, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(fhir_server, "MOST_PAGE_BYTES", 1 << 20)
    said, why = LIES[what]
    server.answer = lambda path: said
    timeout_s = 0.3 if "0\\.3" in why else 30
    with pytest.raises(DataError, match=rf"127\.0\.0\.1:\d+/r4/Patient.*{why}") as caught:
        rows(tmp_path, server, [ID], timeout_s=timeout_s)
    assert "\n" not in str(caught.value)


def test_headers_that_trickle(tmp_path: Path, server: FhirServer) -> None:
    name = "x" * 40
    server.answer = lambda path: Answer([f"{letter}".encode() for letter in name], pause_s=0.05)
    handler = server.http.RequestHandlerClass
    handler.send_response = lambda self, status: None  # type: ignore[attr-defined]
    handler.end_headers = lambda self: None  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="no whole page within"):
        rows(tmp_path, server, [ID], timeout_s=0.3)


def test_a_busy_server_is_asked_again(tmp_path: Path, server: FhirServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir_server, "WAITS_S", (0.0, 0.0))
    server.answer = lambda path: Answer(bundle([patient("a")])) if len(server.asked) > 2 else Answer(b"", 503)
    assert rows(tmp_path, server, [ID]) == [["a"]]
    server.answer = lambda path: Answer(b"", 429)
    before = len(server.asked)
    with pytest.raises(DataError, match="answered 429"):
        rows(tmp_path, server, [ID])
    assert len(server.asked) == before + 3


def test_no_server(tmp_path: Path, server: FhirServer) -> None:
    server.close()
    with pytest.raises(DataError, match=r"127\.0\.0\.1:\d+/r4/Patient.*refused") as caught:
        rows(tmp_path, server, [ID])
    assert isinstance(caught.value.__cause__, OSError), "another time it may answer: the node asks again"
    with pytest.raises(DataError, match=r"ca\.pem: no authority can be read"):
        table_of(described(tmp_path / "w.toml", [ID], server="https://localhost", ca_file="ca.pem"))


def test_a_server_proves_who_it_is(tmp_path: Path, server: FhirServer) -> None:
    path = described(tmp_path / "w.toml", [ID], server=server.base.replace("http:", "https:"))
    with pytest.raises(DataError, match=r"https://127\.0\.0\.1:\d+/r4/Patient.*WRONG_VERSION_NUMBER|record layer"):
        table_of(path)
    pem = server.certified(tmp_path)
    server.answer = paged(server, {"Patient": [patient("a"), patient("b")]}, size=1)
    with pytest.raises(DataError, match=r"CERTIFICATE_VERIFY_FAILED.*`ca_file` names another authority"):
        rows(tmp_path, server, [ID])
    assert rows(tmp_path, server, [ID], ca_file=pem.name) == [["a"], ["b"]]
    server.base = server.base.replace("127.0.0.1", "localhost")  # whom the certificate does not name
    with pytest.raises(DataError, match="CERTIFICATE_VERIFY_FAILED"):
        rows(tmp_path, server, [ID], ca_file=pem.name)
    assert len(server.asked) == 2
