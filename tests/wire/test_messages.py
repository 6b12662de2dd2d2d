"""Every message class: it reads what it wrote, and refuses each field that is missing, of another kind or out of bounds."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple, Type, Union, get_args, get_origin, get_type_hints

import pytest

from orchestrator.errors import WireError
from orchestrator.wire import announcing, answering, encrypted_steps, peer_hello, presence, secure_steps
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.message import Message
from orchestrator.wire.refusals import UNKNOWN

MODULES = (announcing, answering, encrypted_steps, peer_hello, presence, secure_steps)
KEYS = secure_steps.Keys(b"c" * 32, b"m" * 32, b"s", b"e", b"n" * 32)
NEXT_KEYS = secure_steps.Keys(b"c" * 32, b"m" * 32, b"s", b"e", b"")
SHARES = secure_steps.Shares({"a": b"x", "b": b""})
VOUCHED = encrypted_steps.Vouched(b"d", b"m", b"c", b"s", b"e")
HEAD = presence.LedgerHead(0, "0" * 64, "p", 1)
DIGEST = "ab" * 32

EXAMPLES: List[Message] = [
    announcing.Kinded("hello"),
    announcing.Heading("round", "run"),
    announcing.OfRun("run"),
    announcing.OfRound(0),
    announcing.TaskAnnounced("run", {"name": "t"}, [{"entry": 1}]),
    announcing.ModelAssigned(DIGEST),
    answering.Scored(0.25, DIGEST),
    announcing.RoundAnnounced("run", 3),
    announcing.WeightsNamed(DIGEST, DIGEST),
    announcing.ClipAnnounced(0.5),
    announcing.LastCounted({"a": 1}),
    announcing.RunOver("run", "too few nodes"),
    announcing.NameTaken("run", "0123", 1.5),
    answering.WeightsWanted("run", 1),
    answering.Update("run", 1, 10),
    answering.Coded("int8"),
    answering.Abstention("run", 1, 2, "sum.keys"),
    encrypted_steps.KeysAsked(3, 10),
    encrypted_steps.KeysMade(b"j", b"s", b"e"),
    VOUCHED,
    encrypted_steps.Terms(b"t", {"a": VOUCHED}),
    encrypted_steps.Ciphertext("a"),
    peer_hello.PeerHello(1, b"k" * 32, b"e", b"s"),
    presence.Word(),
    presence.Hello("run"),
    presence.RunReady("run", 10, 5, "key holder"),
    presence.RunDeclined("run", "policy.task"),
    presence.RunWaiting("run", DIGEST, "policy.approval"),
    presence.Gone("a", "0123"),
    presence.MessageRefused("a", "message"),
    presence.Present("ready", "0123"),
    presence.Standing("hello", "run", "before"),
    HEAD,
    presence.LedgerSaid(HEAD),
    presence.Others([{"kind": "ready"}]),
    secure_steps.Attempt(1, 0),
    secure_steps.AttemptOf("run", 1, 0),
    secure_steps.Step("run", 1, 1, "masked"),
    secure_steps.Asked("shares"),
    KEYS,
    secure_steps.Form(32, 3, 30, 30),
    SHARES,
    secure_steps.AllKeys({"a": KEYS}),
    secure_steps.AllNonces({"a": KEYS}, {"a": b"n"}),
    secure_steps.SharesOf({"a": {"b": b"x"}}),
    secure_steps.Survivors(["a", "b"]),
    secure_steps.Signatures({"a": b"s"}, True),
    secure_steps.NextKeys({"a": NEXT_KEYS}),
    secure_steps.Nonce(b"n" * 32),
    secure_steps.Weight(1, 1),
    secure_steps.Expectation(b"s", NEXT_KEYS),
    secure_steps.Signature(b"s"),
    secure_steps.Opening({"a": (b"b", b"x")}, SHARES),
]
"""One of each class, with every field another than its default."""

ANY: List[Any] = [
    *(None, True, False, 0, -1, 1 << 63, 0.5, float("nan"), float("inf"), 1e300, "", "x", "\x1b[2J", b"", b"x"),
    *([], ["x"], [b"x"], [None], {}, {"x": 1}, {"": None}, {1: b""}),
]
BEYOND: Dict[Tuple[Type[Message], str], List[Any]] = {
    (secure_steps.Keys, "commitment"): [b"", bytes(31), bytes(33)],
    (secure_steps.Nonce, "nonce"): [b"", bytes(31), bytes(33)],
    (announcing.WeightsNamed, "model"): ["", "a" * 63, "a" * 65],
    (announcing.WeightsNamed, "since"): ["", "a" * 65],
    (announcing.ClipAnnounced, "clip_norm"): [0.0, -1.0, 1e13],
    (answering.Coded, "codec"): ["", "c" * 41],
    (peer_hello.PeerHello, "born"): [0],
    (peer_hello.PeerHello, "public"): [b"", bytes(31), bytes(33)],
    (presence.LedgerHead, "hash"): ["", "0" * 63, "0" * 65],
    (presence.LedgerHead, "process"): ["p" * 65],
    (presence.RunWaiting, "digest"): ["d" * 65],
}
"""What is of the kind, and out of bounds."""

NO_RUNS = ["", "a b", "../x", "x" * 129, "r\n"]
FREE_RUN = presence.Standing
"""What is only compared with the name of a run is any text."""

SIGNED = [
    (announcing.OfRound, "round"),
    (announcing.RoundAnnounced, "round"),
    (secure_steps.AttemptOf, "round"),
    (secure_steps.AttemptOf, "attempt"),
    (secure_steps.Attempt, "attempt"),
]
"""Of these the task says which there are: negative ones are answered with an abstention."""


def name_of(example: Any) -> str:
    return type(example).__name__ if isinstance(example, Message) else str(example)


def wrong(hint: Any) -> Iterator[Any]:
    """Values that a field of this type must not have."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or origin is Union:
        if origin is Union:  # Optional: nothing is a field that is left out, and no value
            yield None
            yield from wrong(next(kind for kind in inner if kind is not type(None)))
        return
    if isinstance(hint, type) and issubclass(hint, Message):
        yield from (value for value in ANY if not isinstance(value, dict))
        whole = next(example for example in EXAMPLES if type(example) is hint)
        yield from (damaged for _, damaged in damages(whole))
    elif hint is int:
        yield from (value for value in ANY if type(value) is not int or not 0 <= value < 1 << 63)
    elif hint is float:
        yield from (value for value in ANY if type(value) is not float or not abs(value) < 1e16)
    elif origin is tuple:
        yield from (*(value for value in ANY), [b"x"], [b"x", b"y", b"z"], [b"x", "y"], [None, b"x"])
    elif origin is list or hint is list:
        yield from (value for value in ANY if not isinstance(value, list))
        if inner and get_origin(inner[0]) is dict:  # of others what reads the list refuses what is in it
            yield from ([value] for value in ANY if not isinstance(value, dict))
    elif hint is dict or (isinstance(origin, type) and hasattr(origin, "keys")):
        yield from (value for value in ANY if not isinstance(value, dict))
        yield from ({"a": value} for value in wrong(inner[1]))
    else:
        assert hint in (str, bytes, bool), hint
        yield from (value for value in ANY if not isinstance(value, hint))


def damages(message: Message) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """(what, header) of everything that is wrong with one field of a message."""
    kind, whole, hints = type(message), message.written(), get_type_hints(type(message))
    for each in fields(message):
        if each.name == "code":
            continue
        if each.default is MISSING and each.default_factory is MISSING:
            yield f"{each.name} missing", {name: value for name, value in whole.items() if name != each.name}
        out = next((found for (of, name), found in BEYOND.items() if of is kind and name == each.name), [])
        runs = NO_RUNS if each.name == "run" and kind is not FREE_RUN else []
        signed = any(issubclass(kind, of) and name == each.name for of, name in SIGNED)
        for value in (*wrong(hints[each.name]), *out, *runs):
            if signed and value == -1:
                continue
            yield f"{each.name} = {str(value)[:50]!r}", {**whole, each.name: value}


def test_each_class_has_its_example() -> None:
    def below(of: Type[Message]) -> List[Type[Message]]:
        return [found for each in of.__subclasses__() for found in (each, *below(each))]

    wire = Path(announcing.__file__).parent
    with_messages = {path.stem for path in wire.glob("*.py") if "(Message)" in path.read_text()}
    assert with_messages - {"message"} <= {module.__name__.rsplit(".", 1)[1] for module in MODULES}
    assert sorted(map(name_of, EXAMPLES)) == sorted({each.__name__ for each in below(Message)})


@pytest.mark.parametrize("message", EXAMPLES, ids=name_of)
def test_what_was_written_is_read_and_what_stands_beside_it_is_not(message: Message) -> None:
    header, _ = decode_body(encode_body(message.written()), 1 << 20)
    assert type(message).read(header) == message
    assert type(message).read({**header, "of a newer version": [1]}) == message
    assert list(message.written()) == [*(["kind"] if message.KIND else []), *(each.name for each in fields(message))]
    for each in fields(message):
        if each.default is not MISSING or each.default_factory is not MISSING:
            left_out = {name: value for name, value in header.items() if name != each.name}
            default = each.default if each.default_factory is MISSING else each.default_factory()
            assert getattr(type(message).read(left_out), each.name) == default


ORDER: Dict[Type[Message], str] = {
    announcing.TaskAnnounced: "kind run task certificates",
    announcing.RoundAnnounced: "kind run round",
    announcing.WeightsNamed: "model since",
    announcing.RunOver: "kind run reason",
    announcing.NameTaken: "kind run instance at",
    answering.WeightsWanted: "kind run round",
    answering.Update: "kind run round records",
    answering.Abstention: "kind run round attempt code",
    encrypted_steps.KeysAsked: "parties size",
    encrypted_steps.KeysMade: "journal signature credential",
    encrypted_steps.Vouched: "digest masked_digest check signature credential",
    encrypted_steps.Terms: "told summands",
    peer_hello.PeerHello: "born public credential signature",
    presence.Hello: "kind finished",
    presence.RunReady: "kind run records units role",
    presence.RunDeclined: "kind run code",
    presence.RunWaiting: "kind run digest code",
    presence.Gone: "kind node instance",
    presence.MessageRefused: "kind node code",
    presence.LedgerHead: "entries hash process n",
    secure_steps.Step: "kind run round attempt step",
    secure_steps.Keys: "channel mask signature credential commitment",
    secure_steps.Form: "bits parties units records",
    secure_steps.AllNonces: "adverts nonces",
    secure_steps.Signatures: "signatures foreseen",
    secure_steps.Expectation: "foreseen next",
    secure_steps.Opening: "shares next",
}
"""As versions without these classes wrote them: the same message is the same bytes, and so the same transfer."""

BARE: List[Tuple[Message, str]] = [
    (announcing.TaskAnnounced("run", {}, []), "kind run task"),
    (announcing.WeightsNamed(DIGEST, ""), "model"),
    (announcing.RunOver("run", ""), "kind run reason"),
    (presence.Hello(""), "kind"),
    (presence.RunReady("run", 1, None, ""), "kind run records"),
    (presence.Others([]), ""),
    (secure_steps.AllNonces({}, {}), "adverts"),
    (secure_steps.Signatures({}, False), "signatures"),
    (secure_steps.NextKeys({}), "next"),
    (secure_steps.Expectation(None, None), ""),
    (secure_steps.Opening({}, None), "shares"),
    (NEXT_KEYS, "channel mask signature credential"),
]
"""With nothing in what may be left out."""


@pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.__name__)
def test_fields_are_written_in_the_order_they_always_had(kind: Type[Message]) -> None:
    assert list(next(each for each in EXAMPLES if type(each) is kind).written()) == ORDER[kind].split()


@pytest.mark.parametrize(("message", "left"), BARE, ids=name_of)
def test_what_means_nothing_is_left_out_where_it_always_was(message: Message, left: str) -> None:
    assert list(message.written()) == left.split()


@pytest.mark.parametrize("message", EXAMPLES, ids=name_of)
def test_a_damaged_field_is_refused(message: Message) -> None:
    refused = {what: refusal_of(message, header) for what, header in damages(message)}
    assert [what for what, text in refused.items() if not text] == []
    assert [text for text in refused.values() if len(text) > 400 or not text.isprintable()] == []
    assert refused or type(message) is presence.Word


def refusal_of(message: Message, header: Dict[str, Any]) -> str:
    try:
        type(message).read(header)
    except WireError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("message", [each for each in EXAMPLES if hasattr(each, "code")], ids=name_of)
def test_a_code_that_is_not_on_the_list_is_unknown(message: Any) -> None:
    for value in (*ANY, "gateway.answer", "sentence of a node"):
        assert type(message).read({**message.written(), "code": value}).code == UNKNOWN


@pytest.mark.parametrize(("records", "units", "what"), [(0, 1, "0 records"), (1, 0, "0 units")])
def test_a_vector_is_of_something(records: int, units: int, what: str) -> None:
    secure_steps.Weight(1, 1).check()
    with pytest.raises(WireError, match=f"a masked vector of {what}"):
        secure_steps.Weight(records, units).check()


def test_a_refusal_names_the_place_and_quotes_no_bytes() -> None:
    keys = {**KEYS.written(), "mask": b"secret"[:0].decode()}
    with pytest.raises(WireError, match=r"kind 'step': field 'adverts' of b: field 'mask' is '', expected bytes"):
        secure_steps.AllKeys.read({"kind": "step", "adverts": {"b": keys}})
    with pytest.raises(WireError, match="field 'shares' of b is a list of 3, expected two of bytes"):
        secure_steps.Opening.read({"shares": {"b": [b"secret", b"secret", b"secret"]}})
    with pytest.raises(WireError, match="message of kind 'step' came without 'nonce'"):
        secure_steps.Nonce.read({"kind": "step"})
    with pytest.raises(WireError, match="field 'nonce' is 6 bytes, expected bytes, 32 of them"):
        secure_steps.Nonce.read({"nonce": b"secret"})
