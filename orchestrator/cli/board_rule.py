"""`edgeward board rule`: what a board does by itself about what its model says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from orchestrator.cli.arguments import check_output, number, seconds, whole
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.boards.rules import Rule, Rules, Standing

_EPILOG = """examples:
  edgeward board rule /dev/ttyUSB0 add --class fall --least 0.8 --agree 3 --cool 5 --level 18 --for 10 --model out/demo/bundle
  edgeward board rule /dev/ttyUSB0 add --class 1 --cool 60 --record
  edgeward board rule /dev/ttyUSB0 list
  edgeward board rule /dev/ttyUSB0 remove 2

Rules act on the windows of a stream. They belong to the model in use: another model has none until it is given some, and a
rollback brings back those of the model before. docs/serial.md, "Rules", says who may change them and when outputs are off."""

_ONLY_ADD = (
    "class_name",
    "least",
    "agree",
    "cool",
    "record",
    "hook",
    "level",
    "pulse",
    "pwm",
    "active",
    "hold",
    "hz",
    "duty",
)


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "rule",
        help="what a board does by itself when its model says a class: a record, a pin, PWM, a hook",
        description="List, add and remove the rules of the model in use on a board.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("port", metavar="PORT", help="serial port, such as /dev/ttyUSB0")
    parser.add_argument("action", choices=("list", "add", "remove", "clear"), help="what to do with the rules")
    parser.add_argument(
        "number", nargs="?", type=whole, metavar="NUMBER", help="for remove; for add: the one to replace"
    )
    when = parser.add_argument_group("when, for add")
    when.add_argument("--class", dest="class_name", metavar="NAME", help="a label of --model, or the number of a class")
    when.add_argument("--least", type=number, metavar="P", help="least probability, 0 to 1 (default: 0)")
    when.add_argument("--agree", type=whole, metavar="N", help="windows in a row, 1 to 1000 (default: 1)")
    when.add_argument(
        "--cool", type=seconds, metavar="S", help="cool-down after an action, 0.25 s to a day (default: 5)"
    )
    what = parser.add_argument_group("what, for add: one of").add_mutually_exclusive_group()
    what.add_argument("--record", action="store_true", default=None, help="an `acted` record, as all others send too")
    what.add_argument("--hook", action="store_true", default=None, help="call user_action() (docs/hooks.md)")
    what.add_argument("--level", type=whole, metavar="PIN", help="switch a pin on while windows agree")
    what.add_argument("--pulse", type=whole, metavar="PIN", help="switch a pin on for --for seconds")
    what.add_argument("--pwm", type=whole, metavar="PIN", help="as --level, as a square wave")
    how = parser.add_argument_group("how, for add with a pin")
    how.add_argument(
        "--for", dest="hold", type=seconds, metavar="S", help="off after so long, without a window too; up to 3600"
    )
    how.add_argument("--active", choices=("high", "low"), help="the level that is on (default: high)")
    how.add_argument("--hz", type=whole, help="of PWM, 20 to 8000 (default: 1000)")
    how.add_argument("--duty", type=whole, metavar="PERCENT", help="of PWM, 1 to 99 (default: 50)")
    parser.add_argument("--model", type=Path, metavar="BUNDLE", help="the board's bundle, for the names of its classes")
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="how long to wait for an answer (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from orchestrator.boards import rules
    from orchestrator.boards.client import BoardClient
    from orchestrator.cli.tables import report
    from orchestrator.errors import EdgewardError

    _check(args)
    labels, digest = _described(args.model)
    asked = _rule(args, labels) if args.action == "add" else None
    with BoardClient(args.port, timeout_s=args.timeout) as board:
        model = board.info()["model"]
        if digest and model != digest:
            raise EdgewardError(
                f"{args.port} runs {model or 'no model'}, and {args.model} is {digest}: the names may differ"
            )
        if asked is not None:
            found = rules.set_rule(board, _numbered(asked, args.number, rules.read_rules(board)))
        elif args.action == "remove":
            found = rules.remove_rule(board, args.number)
        else:
            found = rules.clear_rules(board) if args.action == "clear" else rules.read_rules(board)
    report(args.json, _as_json(args.port, model, found, labels), _as_text(args.port, model, found, labels))
    return 0


def _check(args: argparse.Namespace) -> None:
    from orchestrator.boards.rules import MOST_AGREE, MOST_RULES
    from orchestrator.errors import UsageError

    given = [name for name in _ONLY_ADD if getattr(args, name) is not None]
    if args.action != "add" and given:
        raise UsageError(
            f"rule {args.action} takes no --{given[0].replace('class_name', 'class').replace('hold', 'for')}"
        )
    if args.action == "remove" and args.number is None:
        raise UsageError("rule remove takes the number of a rule; rule list shows them")
    if args.number is not None and not 1 <= args.number <= MOST_RULES:
        raise UsageError(f"rule {args.action} {args.number}: rules have the numbers 1 to {MOST_RULES}")
    if args.agree is not None and not 1 <= args.agree <= MOST_AGREE:
        raise UsageError(f"--agree {args.agree}: 1 to {MOST_AGREE} windows in a row")
    if args.action in ("list", "clear") and args.number is not None:
        raise UsageError(f"rule {args.action} takes no number")


def _described(folder: Optional[Path]) -> tuple[List[str], str]:
    """The labels of a bundle by class, and the digest of its model; nothing without one."""
    from model_export.bundle import verify_bundle
    from model_export.errors import ExportError
    from model_export.model_bin import parse_model_bin
    from orchestrator.errors import GivenError, UsageError

    if folder is None:
        return [], ""
    if not folder.is_dir():
        raise UsageError(f"--model {folder}: no such folder; the names of classes are in a bundle")
    try:
        labels = [str(label) for label in verify_bundle(folder, run=False)["labels"]]
        digest = parse_model_bin((folder / "model.bin").read_bytes()).digest
    except (ExportError, OSError) as error:
        raise GivenError(f"--model {folder}: {error}") from error
    return ["not " + labels[0], *labels] if len(labels) == 1 else labels, digest


def _rule(args: argparse.Namespace, labels: Sequence[str]) -> Rule:
    from math import ceil

    from orchestrator.boards.rules import ACTIONS, HIGH, PWM, Rule
    from orchestrator.errors import UsageError

    action = next((name for name in ACTIONS if getattr(args, name) is not None), None)
    if args.class_name is None or action is None:
        raise UsageError("rule add takes --class, and one of --record, --hook, --level, --pulse and --pwm")
    least = 0.0 if args.least is None else args.least
    if least > 1:
        raise UsageError(f"--least {least:g}: a probability is 0 to 1")
    rule = Rule(
        number=args.number or 0,
        label=_label(args.class_name, labels),
        least_of_256=ceil(least * 256),
        agree=1 if args.agree is None else args.agree,
        cool_ms=round(1000 * (5 if args.cool is None else args.cool)),
        action=action,
    )
    with_pwm = {"hz": args.hz, "duty": args.duty}
    with_pin = {"for": args.hold, "active": args.active, **with_pwm}
    for name, value in (with_pin if not rule.has_pin else with_pwm if action != PWM else {}).items():
        if value is not None:
            raise UsageError(f"--{name} is not used with --{action}")
    if not rule.has_pin:
        return rule
    if args.hold is None:
        raise UsageError(f"--{action} takes --for S: after so long the pin is off, also where no window comes any more")
    return Rule(
        *(rule.number, rule.label, rule.least_of_256, rule.agree, rule.cool_ms, action),
        pin=getattr(args, action),
        active=args.active or HIGH,
        hold_ms=round(1000 * args.hold),
        hz=(1000 if args.hz is None else args.hz) if action == PWM else 0,
        duty_percent=(50 if args.duty is None else args.duty) if action == PWM else 0,
    )


def _label(name: str, labels: Sequence[str]) -> int:
    from orchestrator.errors import UsageError

    if name in labels:
        return labels.index(name)
    if name.isascii() and name.isdecimal() and len(name) <= 3:
        return int(name)
    known = f"one of {', '.join(labels)}" if labels else "the number of a class, or a name with --model BUNDLE"
    raise UsageError(f"--class {name}: expected {known}")


def _numbered(rule: Rule, number: Optional[int], known: Rules) -> Rule:
    from dataclasses import replace

    return replace(rule, number=known.free_number() if number is None else number)


def _named(label: int, labels: Sequence[str]) -> str:
    return labels[label] if label < len(labels) else str(label)


def _as_json(port: str, model: Optional[str], found: Rules, labels: Sequence[str]) -> Dict[str, Any]:
    rules = [
        {
            **each.rule.as_dict(),
            **({"class": _named(each.rule.label, labels)} if labels else {}),
            "on": each.on,
            "ready_in_ms": each.ready_in_ms,
        }
        for each in found.standing
    ]
    return {"port": port, "model": model, "locked": found.locked, "rules": rules}


def _as_text(port: str, model: Optional[str], found: Rules, labels: Sequence[str]) -> str:
    lines = [f"{port}: {many(len(found.standing), 'rule')} for model {model}"]
    lines += [f"  {each.rule.number}  {_line(each, labels)}" for each in found.standing]
    if found.locked:
        lines.append(
            "the keys are locked or damaged: only a board flashed with --allow-rules changes rules over serial"
        )
    return "\n".join(lines)


def _line(each: Standing, labels: Sequence[str]) -> str:
    from orchestrator.boards.rules import HOOK, PULSE, PWM, RECORD

    rule = each.rule
    least = f" at {rule.least_of_256 / 256:.2f} or more" if rule.least_of_256 else ""
    pin, hold = f"pin {rule.pin} {rule.active}", f"{rule.hold_ms / 1000:g} s"
    what = {RECORD: "a record", HOOK: "user_action()", PULSE: f"{pin} for {hold}"}.get(
        rule.action, f"{pin} while they go on, off {hold} after the last"
    )
    if rule.action == PWM:
        what += f", {rule.hz} Hz, {rule.duty_percent} %"
    state = ", on now" if each.on else f", ready in {each.ready_in_ms / 1000:g} s" if each.ready_in_ms else ""
    return (
        f"class {_named(rule.label, labels)}{least}, {many(rule.agree, 'window')} in a row: {what}; "
        f"cool-down {rule.cool_ms / 1000:g} s{state}"
    )


def check_pins(path: Optional[Path]) -> None:
    """Whether lines can be added to it: the virtual board would only complain where nobody reads it."""
    from orchestrator.errors import UsageError

    check_output(path, "--pins")
    try:
        if path is not None:
            path.open("ab").close()
    except OSError as error:
        raise UsageError(f"--pins {path}: {error.strerror}") from error
