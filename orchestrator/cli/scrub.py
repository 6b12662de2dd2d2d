"""`edgeward gateway scrub`: takes what nodes of earlier versions quoted of their data out of a gateway's folder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, List

from orchestrator.cli.arguments import file_name

if TYPE_CHECKING:
    from orchestrator.gateway.scrub import Scrubbed

_EPILOG = """examples:
  edgeward gateway scrub federation --dry-run                       # how much of it there is, and where
  edgeward gateway scrub federation --log-file /var/log/edgeward.log
  edgeward gateway audit federation --verify                        # whole, and says that it was written again

Stop the gateway and its dashboard first. Runs can be continued afterwards. Copies elsewhere are not reached: see the output."""


def register(verbs: Any) -> None:
    parser = verbs.add_parser(
        "scrub",
        help="remove the words of declining nodes, which could quote their data, from journal, audit log and log files",
        description="Nodes of version 0.1 quoted the value at fault when their data did not fit a task. This replaces those "
        "words in the store, the audit log and log files by a fixed text, and rewrites the store so that no page keeps them. "
        "Lineages lose who was in which round where a model's claim counts on that being secret.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="the --out folder of a gateway, or the --state folder of a relay")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    parser.add_argument(
        "--log-file",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a log outside the folder, with the rotated ones beside it; may be given several times",
    )
    parser.add_argument(
        "--broker", metavar="URL", help="also replace what this broker keeps of declining nodes' presence"
    )
    parser.add_argument("--ca-file", type=file_name, metavar="FILE", help="CA of an mqtts:// broker")
    parser.add_argument(
        "--identity", type=Path, metavar="DIR", help="the gateway's identity, for a broker that asks for one"
    )
    parser.add_argument("--federation", metavar="NAME", help="on the broker (default: the identity's, or default)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    import json

    from orchestrator.cli.tables import say
    from orchestrator.gateway.scrub import scrub

    done = scrub(arguments.out, arguments.dry_run, arguments.log_file)
    presence = _presence(arguments) if arguments.broker else None
    if arguments.json:
        print(json.dumps({**done.as_dict(), "presence": presence}, indent=1))
    else:
        say("\n".join(_page(done, presence)))
    return 1 if done.left else 0


def _presence(arguments: argparse.Namespace) -> List[str]:
    from orchestrator.gateway.authority import Authority
    from orchestrator.gateway.scrub_presence import scrub_presence
    from orchestrator.wire.link import BrokerAddress

    broker = BrokerAddress.parse(arguments.broker, arguments.ca_file)
    federation = arguments.federation or "default"
    if arguments.identity is not None:
        authority = Authority(arguments.identity)
        broker, federation = authority.secure(broker), arguments.federation or authority.federation
        authority.close()
    return scrub_presence(broker, federation, arguments.dry_run)


def _page(done: "Scrubbed", presence: "List[str] | None") -> List[str]:
    would = "would replace" if done.dry_run else "replaced"
    counts = [
        (done.journal, "reasons in the journal"),
        (done.phases, "reasons why runs failed"),
        (done.audit, "reasons in the audit log"),
        (done.lineages, "lineages that say who was in which round"),
        (done.reports, "reports that say so"),
        *((count, f"places in {name}") for name, count in done.files.items()),
    ]
    lines = [f"{done.out}: {would} {count} {what}" for count, what in counts if count]
    if not lines:
        lines = [f"{done.out}: nothing to replace"]
    if done.audit_before is not None:
        before = done.audit_before
        whole = "whole" if before["whole"] else "NOT whole"
        lines.append(
            f"the audit log before it had {before['entries']} entries and was {whole}; its head was {before['head']}"
        )
    if presence is not None:
        lines.append(f"presence at the broker: {would} that of {', '.join(presence) or 'nobody'}")
    lines += [f"STILL IN {name}: not changed, since it is no text, or part of a model" for name in done.left]
    return [*lines, "not reached from here:", *(f"  {what}" for what in done.elsewhere)]
