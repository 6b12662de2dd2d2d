"""`edgeward model list|lineage|tag|prune`: the models a gateway made, and where each comes from."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from orchestrator.wire.plain import many


def register(verbs: Any) -> None:
    listing = verbs.add_parser("list", help="the models a gateway made, newest first")
    listing.set_defaults(run=_list)

    lineage = verbs.add_parser("lineage", help="which run, rounds, nodes (by pseudonym) and privacy made a model")
    lineage.add_argument("model", metavar="DIGEST|TAG", help="a unique beginning of the digest is enough")
    lineage.set_defaults(run=_lineage)

    tag = verbs.add_parser("tag", help="give a model a name, such as production; prune spares tagged models")
    tag.add_argument("model", metavar="DIGEST|TAG", help="a unique beginning of the digest is enough")
    tag.add_argument("tag", metavar="NAME", help="its new name: a-z 0-9 . _ -")
    tag.add_argument("--remove", action="store_true", help="take the name from the model instead")
    tag.set_defaults(run=_tag)

    prune = verbs.add_parser("prune", help="remove old models without a tag")
    prune.add_argument("--keep", type=int, required=True, metavar="N", help="how many untagged models to keep")
    prune.set_defaults(run=_prune)

    for parser in (listing, lineage, tag, prune):
        parser.add_argument(
            "--out", type=Path, default=Path("out/federation"), help="the gateway's folder (default: %(default)s)"
        )
        parser.add_argument("--json", action="store_true", help="as JSON")


def _list(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import moment, number, table
    from orchestrator.errors import UsageError
    from orchestrator.gateway.registry import models

    if not arguments.out.is_dir():
        raise UsageError(f"--out {arguments.out}: no such folder; name the --out of a `gateway run`")
    found = models(arguments.out)
    if arguments.json:
        print(json.dumps([model.as_dict() for model in found], indent=1))
        return 0
    rows = [("digest", "made", "run", "rounds", "nodes", "epsilon", "accuracy", "tags")]
    for model in found:
        last = model.made_by[-1]
        nodes = {node for entry in last["rounds"] for node in entry.get("nodes", ())}
        accuracy = last["metrics"].get("tflm", {}).get("accuracy")
        figures = (
            str(len(last["rounds"])),
            str(len(nodes)) if nodes else "-",
            number(last["privacy"]["epsilon"]),
            number(accuracy),
        )
        rows.append((model.digest, moment(model.kept_at), last["run"], *figures, " ".join(model.tags)))
    print(table(rows) if found else f"{arguments.out}: no model yet")
    return 0


def _lineage(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import moment, number, say, table
    from orchestrator.gateway.registry import find_model

    model = find_model(arguments.out, arguments.model)
    if arguments.json:
        print(json.dumps(model.as_dict(), indent=1))
        return 0
    say(f"model {model.digest}{''.join(f' [{tag}]' for tag in model.tags)}\nbundle {model.folder / 'bundle'}")
    for entry in model.made_by:
        parent = f"went on from run {entry['parent_run']}, model {entry['parent_model']}" if entry["parent_run"] else ""
        say(f"\nrun {entry['run']}, training {entry['training']}, {moment(entry['made_at'])} {parent}".rstrip())
        say(f"task {entry['task']}, SHA-256 {entry['task_digest']}")
        say(f"privacy: {entry['privacy']['claim']}")
        for kind, metrics in entry["metrics"].items():
            say(f"{kind}: " + ", ".join(f"{key} {number(value)}" for key, value in metrics.items()))
        say("made with " + ", ".join(f"{name} {version}" for name, version in entry["versions"].items() if version))
        if entry.get("participation"):
            say(f"{many(len(entry['rounds']), 'round')}; who was in which: {entry['participation']}")
            continue
        rows = [("round", "ended", "nodes")]
        rows += [(str(r["round"]), moment(r["ended"]), " ".join(r["nodes"])) for r in entry["rounds"]]
        print(table(rows))
    return 0


def _tag(arguments: argparse.Namespace) -> int:
    from orchestrator.errors import UsageError
    from orchestrator.gateway.registry import find_model, remove_tag, set_tag

    model = find_model(arguments.out, arguments.model)
    if not arguments.remove:
        set_tag(arguments.out, arguments.tag, model.digest)
    elif arguments.tag not in model.tags:
        raise UsageError(f"model {model.digest} has no tag {arguments.tag!r}")
    else:
        remove_tag(arguments.out, arguments.tag)
    model = find_model(arguments.out, model.digest)
    print(
        json.dumps(model.as_dict(), indent=1)
        if arguments.json
        else f"{model.digest}: {' '.join(model.tags) or 'no tag'}"
    )
    return 0


def _prune(arguments: argparse.Namespace) -> int:
    from orchestrator.gateway.registry import models, prune

    removed = [model.digest for model in prune(arguments.out, arguments.keep)]
    kept = [model.digest for model in models(arguments.out)]
    if arguments.json:
        print(json.dumps({"removed": removed, "kept": kept}))
    else:
        print(f"removed {', '.join(removed) or 'nothing'}; kept {len(kept)}")
    return 0
