"""`edgeward similar`: which patients of another hospital are like one's own, found by codes that the other cannot read."""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from orchestrator.cli.arguments import add_json, check_new_file, whole
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.state import HELP, only_state
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    import numpy as np

    from orchestrator.analyses.codes import Coder
    from orchestrator.privacy.similar import Querier
    from orchestrator.privacy.similar_cells import Near
    from orchestrator.privacy.similar_files import Answer

_EPILOG = """once, from the result of an analysis of kind "hashing"; both sides take the same coder:
  edgeward similar coder edgeward.toml --result out/result.json --out coder.json

then A asks B about two patients of its own:
  A: edgeward similar ask a.csv --coder coder.json --rows 4 9 --name icu-a --state DIR --key similar.key --out question.bin
  B: edgeward similar answer b.csv --coder coder.json --question question.bin --name icu-b --state DIR --policy policy.toml \\
       --out answer.bin
  A: edgeward similar read --coder coder.json --key similar.key --question question.bin --answer answer.bin --nearest 3

question.bin goes to B, answer.bin back to A; similar.key stays. What B shows, and to whom how often, is in [similar] of its
policy.toml (docs/policy.md). What this does not promise: docs/analyses.md."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "similar", help=COMMANDS["similar"], epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    coder = verbs.add_parser("coder", help='write the coder that an analysis of kind "hashing" came to')
    coder.add_argument("config", type=Path, metavar="EDGEWARD.TOML", help="of that analysis, for its columns")
    coder.add_argument("--result", type=Path, required=True, metavar="FILE", help="its result.json")
    coder.add_argument("--out", type=Path, required=True, metavar="FILE", help="the coder; must not exist")
    coder.set_defaults(run=_coder)
    ask = verbs.add_parser("ask", help="encrypt the codes of own patients, for other owners")
    ask.add_argument("data", type=Path, metavar="FILE", help="a table in any format a node reads, or its description")
    ask.add_argument(
        "--rows", type=whole, nargs="+", required=True, metavar="LINE", help="of the patients, by line in the file"
    )
    ask.add_argument("--out", type=Path, required=True, metavar="FILE", help="the question; must not exist")
    ask.set_defaults(run=_ask)
    answer = verbs.add_parser("answer", help="answer another owner's question, by the own policy")
    answer.add_argument("data", type=Path, metavar="FILE", help="own patients, in any format a node reads")
    answer.add_argument(
        "--policy", type=Path, required=True, metavar="FILE", help="policy.toml, with a section [similar]"
    )
    answer.add_argument("--out", type=Path, required=True, metavar="FILE", help="the answer; must not exist")
    answer.set_defaults(run=_answer)
    read = verbs.add_parser("read", help="decrypt answers, and count the nearest patients")
    read.add_argument("--answer", type=Path, nargs="+", required=True, metavar="FILE", help="of each owner")
    read.add_argument(
        "--owner",
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="whose answers are accepted (default: anybody's)",
    )
    read.add_argument(
        "--nearest", type=whole, default=0, metavar="K", help="show shares of classes among so many nearest ones"
    )
    read.add_argument(
        "--own", type=Path, metavar="FILE", help="other patients of one's own, searched here and counted too"
    )
    read.add_argument("--identity", type=Path, metavar="DIR", help="to check certificates of owners with an identity")
    read.set_defaults(run=_read)
    for verb in (ask, answer):
        verb.add_argument("--name", required=True, help="of this node")
        verb.add_argument("--state", type=Path, help=HELP)
        verb.add_argument("--identity", type=Path, metavar="DIR", help="of a node with an identity")
    for verb in (ask, answer, read):
        verb.add_argument("--coder", type=Path, required=True, metavar="FILE", help="the same on both sides")
    for verb in (ask, read):
        verb.add_argument("--key", type=Path, required=True, metavar="FILE", help="of this question; it stays here")
    for verb in (answer, read):
        verb.add_argument("--question", type=Path, required=True, metavar="FILE", help="as the asking side wrote it")
    add_json(coder, ask, answer, read)


def _coder(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.errors import DataError
    from orchestrator.files import replace_file
    from orchestrator.gateway.coder import coder_of_result
    from orchestrator.gateway.config import load_config

    check_new_file(arguments.out, "--out")
    task = load_config(arguments.config).task
    coder: Coder = coder_of_result(task, _bytes(arguments.result), str(arguments.result))
    if not coder.weights.any():
        raise DataError(f"{arguments.result}: all weights are 0: noise hides what codes could be made of")
    replace_file(arguments.out, coder.written())
    report(
        arguments.json,
        {"file": str(arguments.out), "bits": coder.bits, "digest": coder.digest},
        f"{arguments.out}: a coder of {coder.bits} bits, digest {coder.digest}",
    )
    return 0


def _ask(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.errors import UsageError
    from orchestrator.files import replace_file
    from orchestrator.privacy.similar import Querier
    from orchestrator.privacy.similar_files import MOST_PATIENTS, Party, write_key, write_question
    from orchestrator.wire.topics import check_name

    check_new_file(arguments.out, "--out")
    check_new_file(arguments.key, "--key", {"--out": arguments.out})
    check_name(arguments.name, "--name")
    if not 1 <= len(arguments.rows) <= MOST_PATIENTS:
        raise UsageError(
            f"--rows: {len(arguments.rows)} patients, a question is about 1 to {MOST_PATIENTS}: ask several"
        )
    twice = [line for place, line in enumerate(arguments.rows) if line in arguments.rows[:place]]
    if twice:
        raise UsageError(f"--rows: line {twice[0]} is there twice, and owners would count it twice")
    coder = _read_coder(arguments.coder)
    codes = _codes_of(arguments.data, coder, arguments.rows)
    credential, sign = _signer(arguments)
    querier = Querier.make()
    blocks = [querier.ask(code) for code in codes]
    party = Party(arguments.name, credential)
    question = write_question(party, coder.digest, coder.bits, querier.public, blocks, sign)
    replace_file(arguments.key, write_key(codes, querier.secret_key()), 0o600)
    replace_file(arguments.out, question)
    report(
        arguments.json,
        {"file": str(arguments.out), "key": str(arguments.key), "patients": len(codes), "bytes": len(question)},
        f"{arguments.out}: {many(len(codes), 'patient')}, {len(question):,} bytes, for other owners; {arguments.key} stays here",
    )
    return 0


def _answer(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.node_budget import open_ledger
    from orchestrator.cli.tables import report
    from orchestrator.data.sources.registry import file_of
    from orchestrator.files import replace_file
    from orchestrator.node.policy import load_policy
    from orchestrator.node.searches import answered, check_coder, check_querier, note_answered, note_search, read_asked
    from orchestrator.privacy.similar import Answerer
    from orchestrator.privacy.similar_files import MOST_QUESTION_BYTES, Party
    from orchestrator.wire.topics import check_name

    check_new_file(arguments.out, "--out")
    check_name(arguments.name, "--name")
    file_of(arguments.data)  # a file that is not there spends nobody's question
    policy, coder = load_policy(arguments.policy)[0], _read_coder(arguments.coder)
    rules = policy.similar
    with _named(arguments.question):
        asked = read_asked(_bytes(arguments.question, MOST_QUESTION_BYTES), coder, _authority(arguments.identity))
    check_querier(rules, asked.fingerprint)
    check_coder(policy, coder)
    answerer, (credential, sign) = Answerer(asked.question.public), _signer(arguments)
    with open_ledger(only_state(arguments.state), arguments.identity) as (ledger, _):
        note_search(ledger, rules, asked.fingerprint, asked.question.digest, len(asked.question.blocks))
        # Counted from here on, whatever becomes of it: only now are data opened.
        answer = answered(asked, answerer, coder, arguments.data, rules.shown, Party(arguments.name, credential), sign)
        note_answered(ledger, asked.fingerprint, asked.question.digest)
    replace_file(arguments.out, answer)
    patients, querier = len(asked.question.blocks), rules.name_of(asked.fingerprint)
    report(
        arguments.json,
        {"file": str(arguments.out), "querier": querier, "patients": patients, "bytes": len(answer)},
        f"{arguments.out}: {rules.show} within {rules.within} bits of {many(patients, 'patient')} of {querier}, "
        f"{len(answer):,} bytes",
    )
    return 0


def _read(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import table
    from orchestrator.errors import UsageError
    from orchestrator.node.searches import check_answer
    from orchestrator.privacy.similar import Querier
    from orchestrator.privacy.similar_cells import DISTANCES, votes
    from orchestrator.privacy.similar_files import (
        MOST_ANSWER_BYTES,
        MOST_QUESTION_BYTES,
        read_answer,
        read_key,
        read_question,
    )

    coder = _read_coder(arguments.coder)
    with _named(arguments.question):
        question = read_question(_bytes(arguments.question, MOST_QUESTION_BYTES))
    with _named(arguments.key):
        codes, secret = read_key(_bytes(arguments.key))
    querier, authority = Querier.from_secret(secret, question.public), _authority(arguments.identity)
    found: List[Dict[str, Any]] = []
    near: List[List[Near]] = [[] for _ in question.blocks]
    heard: Dict[str, Path] = {}
    reach = coder.bits
    for path in arguments.answer:
        with _named(path):
            answer = read_answer(_bytes(path, MOST_ANSWER_BYTES))
        fingerprint = check_answer(answer, question, coder, authority, str(path))
        if fingerprint in heard:
            raise UsageError(
                f"--answer: {heard[fingerprint]} and {path} are of the same owner, whose patients would count twice"
            )
        if arguments.owner and fingerprint not in arguments.owner:
            raise UsageError(f"{path}: signed with the key {fingerprint}, which is not one of --owner")
        if arguments.nearest and answer.show != DISTANCES:
            raise UsageError(f"--nearest: {path} shows {answer.show}, and no distances")
        heard[fingerprint] = path
        reach = min(reach, answer.within)
        with _named(path):
            for patient, each in enumerate(answer.blocks):
                found += _shown(querier, answer, each, patient, near[patient], fingerprint)
    if arguments.own is not None:
        _add_own(arguments.own, coder, codes, near)
    shares: List[Dict[str, Any]] = []
    for patient, theirs in enumerate(near if arguments.nearest else []):
        voted = votes(theirs, coder.classes, arguments.nearest, reach)
        nearest, share = (voted[1], voted[0]) if voted else (0, None)
        shares.append({"patient": patient + 1, "within": reach, "nearest": nearest, "shares": share})
    if arguments.json:
        print(json.dumps({"found": found, **({"nearest": shares} if arguments.nearest else {})}, indent=1))
        return 0
    heads = ("patient", "owner", coder.outcome, "distance", "patients")
    rows: List[Tuple[str, ...]] = [heads]
    for line in found:
        at = f"within {line['within']}" if line["distance"] is None else str(line["distance"])
        size = str(line["patients"]) + (f" ± {line['half_width']}" if "half_width" in line else "")
        owner = f"{line['owner']} {line['fingerprint'][:16]}"  # a name is what its owner says
        rows.append((str(line["patient"]), owner, line["label"], at, size))
    print(table(rows))
    for line in shares:
        said = ", ".join(f"{name} {share:.2f}" for name, share in (line["shares"] or {}).items())
        print(f"patient {line['patient']}, of the {line['nearest']} nearest within {reach} bits: {said or 'nobody is'}")
    return 0


def _shown(
    querier: Querier, answer: Answer, blocks: bytes, patient: int, near: List[Near], fingerprint: str
) -> List[Dict[str, Any]]:
    """The lines of one patient in one answer; its distances are added to `near`."""
    from orchestrator.privacy.similar_cells import COUNTS, half_width, hits_of, near_of

    sums = querier.read(blocks, answer.bits, answer.cells)
    near.append(near_of(sums, answer.groups))
    lines = []
    for group, hits in zip(answer.groups, hits_of(sums, answer.groups)):
        if not hits and answer.show != COUNTS:
            continue
        line = {"patient": patient + 1, "owner": answer.party.name, "fingerprint": fingerprint, "label": group.label}
        line.update({"distance": group.distance, "within": answer.within, "patients": hits - answer.shift})
        if answer.show == COUNTS:
            line["half_width"] = half_width(answer.epsilon)
        lines.append(line)
    return lines


def _add_own(path: Path, coder: Coder, codes: np.ndarray, near: List[List[Near]]) -> None:
    """Own patients, searched in the clear."""
    from orchestrator.data.dataset import load_dataset
    from orchestrator.privacy.similar_cells import plainly_near

    own = load_dataset(path, coder.schema, gaps=True)
    levels, theirs = coder.levels(own.x, own.patients), coder.codes(own.x, coder.schema)
    for code, found in zip(codes, near):
        found.append(plainly_near(code, theirs, levels, coder.classes))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """What is wrong with a file of somebody else names the file."""
    from orchestrator.errors import WireError

    try:
        yield
    except WireError as error:
        raise WireError(f"{path}: {error}") from error


def _bytes(path: Path, most: int = 1 << 28) -> bytes:
    """A file of somebody else's, up to a size."""
    from orchestrator.errors import UsageError
    from orchestrator.wire.special_files import open_file

    try:
        with open_file(path) as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(content) > most:
        raise UsageError(f"{path}: larger than {most:,} bytes, which no such file is")
    return content


def _read_coder(path: Path) -> Coder:
    from orchestrator.analyses.codes import MOST_BYTES, read_coder

    return read_coder(_bytes(path, MOST_BYTES), str(path))


def _codes_of(path: Path, coder: Coder, lines: Sequence[int]) -> np.ndarray:
    """uint8 (lines, bits): of the records in these lines of a file."""
    from orchestrator.data.dataset import load_dataset
    from orchestrator.errors import UsageError

    rows = load_dataset(path, coder.unlabelled, gaps=True)
    places = {int(line): place for place, line in enumerate([] if rows.places is None else rows.places)}
    missing = [line for line in lines if line not in places]
    if missing:
        raise UsageError(f"--rows: {path} has no record in line {missing[0]}")
    return coder.codes(rows.x[[places[line] for line in lines]], coder.unlabelled)


def _signer(arguments: argparse.Namespace) -> Tuple[bytes, Callable[[bytes], bytes]]:
    """(what this node shows of itself, how it signs): by its identity, else by the key of its state."""
    from contextlib import closing

    from orchestrator.errors import UsageError
    from orchestrator.node.identity import NodeIdentity
    from orchestrator.node.peers import Peers
    from orchestrator.node.store import NodeStore

    state = only_state(arguments.state)
    if not (state / "node.sqlite").is_file():
        raise UsageError(f"--state {state}: no node has run there")
    identity = None if arguments.identity is None else NodeIdentity(arguments.identity)
    with closing(NodeStore(state / "node.sqlite")) as store:
        peers = Peers(arguments.name, store, identity)
        return peers.credential, peers.sign


def _authority(folder: Optional[Path]) -> Any:
    from orchestrator.node.identity import NodeIdentity

    return None if folder is None else NodeIdentity(folder).for_peers()[2]
