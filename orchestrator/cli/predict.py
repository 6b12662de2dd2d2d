"""`edgeward predict`: labels and probabilities for raw rows, by the model in a bundle."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from orchestrator.cli.arguments import check_output
from orchestrator.cli.commands import COMMANDS
from orchestrator.errors import UsageError
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.data.dataset import Dataset
    from orchestrator.gateway.described_bundle import Described
    from orchestrator.predict.predictions import Predictions

_EPILOG = """examples:
  edgeward predict federation/bundle --data new.csv --out predictions.csv
  edgeward predict federation/bundle --data beats.npz --model float --json
  edgeward predict federation/bundle --data new.csv --model float --codes --out codes.csv

The data file has the columns or arrays of the task, read as the nodes read theirs; the label may be left out. Where it is
there, the command also says how right the model is. Predictions say something of the rows they are for, and no privacy
claim covers them: keep them where the rows are."""


_SAID = (
    "sensitivity",
    "specificity",
    "macro_f1",
    "auc",
    "pr_auc",
    "r2",
    "mae",
    "rmse",
    "deviance",
    "concordance",
    "loss",
)
"""Figures that are printed where the data have labels; --json has all."""


def register(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "predict",
        help=COMMANDS["predict"],
        description="Reads raw rows and writes the model's label and the probability of each class for every one of them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path, help="a bundle's folder, as a gateway writes it")
    parser.add_argument(
        "--data", required=True, metavar="FILE", type=Path, help="rows in the task's schema: .csv, or .npz for signals"
    )
    parser.add_argument(
        "--out",
        metavar="PREDICTIONS.csv",
        type=Path,
        help="write the predictions there (default: to stdout)",
    )
    parser.add_argument(
        "--model",
        choices=("int8", "float"),
        default="int8",
        help="the quantized model, as boards run it, or the float model it was made of (default: %(default)s)",
    )
    parser.add_argument(
        "--engine",
        choices=("tflm", "direct"),
        help="what runs the int8 model: TensorFlow Lite Micro, or Edgeward's own kernels (default: tflm)",
    )
    parser.add_argument(
        "--codes",
        action="store_true",
        help="of a model that learned target 'none', with --model float: also what its narrowest layer makes of each row",
    )
    parser.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="demand that this key signed the bundle")
    parser.add_argument("--json", action="store_true", help="print predictions, or with --out the summary, as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.logs import show_milestones
    from orchestrator.gateway.described_bundle import read_described, read_rows
    from orchestrator.predict.codes import codes_of
    from orchestrator.predict.engines import answered
    from orchestrator.predict.predictions import Predictions

    _check_out(arguments)
    if arguments.model == "float" and arguments.engine is not None:
        raise UsageError(f"--engine {arguments.engine}: is for the int8 model; --model float runs in LiteRT")
    if arguments.codes and arguments.model != "float":
        raise UsageError("--codes: are of the float model, whose layers can be read: add --model float")
    bundle = read_described(arguments.bundle, arguments.key)
    if bundle.of_trees and arguments.engine is not None:
        raise UsageError(f"--engine {arguments.engine}: is for models of layers; {arguments.bundle} has trees")
    arguments.engine = arguments.engine or ("trees" if bundle.of_trees else "tflm")
    show_milestones()
    data = read_rows(arguments.data, bundle.schema, gaps=bundle.of_trees)
    found, spread = answered(bundle, bundle.inputs(data), arguments.model, arguments.engine)
    threshold = bundle.manifest.get("anomaly", {}).get("threshold")
    codes = codes_of(bundle, bundle.inputs(data)) if arguments.codes else None
    predictions = Predictions(bundle.schema, data, found, threshold, spread, codes)
    if arguments.out is not None:
        _write(predictions, arguments.out)
    if arguments.json:
        rows = {} if arguments.out is not None else {"predictions": list(predictions.rows())}
        print(json.dumps({**_summary(arguments, bundle, predictions), **rows}))
        return 0
    if arguments.out is None:
        from orchestrator.predict.predictions import write_csv

        if hasattr(sys.stdout, "reconfigure"):  # a file for programs: in UTF-8, whatever the terminal's encoding is
            sys.stdout.reconfigure(encoding="utf-8")
        write_csv(predictions, sys.stdout)
    keyed = arguments.key is not None
    _say(_summary(arguments, bundle, predictions), keyed, sys.stderr if arguments.out is None else sys.stdout)
    return 0


def _check_out(arguments: argparse.Namespace) -> None:
    """Before anything is read: predictions are of private rows, and a bundle is made to be passed on."""
    out = arguments.out
    check_output(out, "--out", {"the data file": arguments.data, "--key": arguments.key})
    if out is None:
        return
    if arguments.bundle.resolve() in out.resolve().parents:
        raise UsageError(f"--out {out}: lies in the bundle, which holds nothing about rows; name a file elsewhere")


def _write(predictions: Predictions, path: Path) -> None:
    """Only its owner may read it."""
    from orchestrator.files import new_file
    from orchestrator.predict.predictions import write_csv

    with new_file(path, 0o600, replaces=True) as fresh, fresh.open("w", newline="", encoding="utf-8") as file:
        write_csv(predictions, file)


def _summary(arguments: argparse.Namespace, bundle: Described, predictions: Predictions) -> Dict[str, Any]:
    return {
        "bundle": str(bundle.folder),
        "name": bundle.manifest["name"],
        "model_digest": bundle.manifest["model_digest"],
        "signed_by": bundle.signed_by or None,
        "model": arguments.model,
        "engine": {"float": "litert"}.get(arguments.model, arguments.engine),
        "data": str(arguments.data),
        "records": predictions.data.records,
        "dropped": predictions.data.dropped,
        "predicted": predictions.counts(),
        "figures": predictions.figures(),
        "warnings": _warnings(predictions.data, bundle),
        "out": None if arguments.out is None else str(arguments.out),
    }


def _warnings(data: Dataset, bundle: Described) -> List[str]:
    from orchestrator.data.dataset import CLAMPED_SHARE, clamped_columns

    warnings = [text for share, text in clamped_columns(data, bundle.schema) if share > CLAMPED_SHARE]
    if data.dropped:
        warnings.append(
            f"{many(data.dropped, 'row')} {'lacks' if data.dropped == 1 else 'lack'} a used value: "
            "there is no prediction for them"
        )
    return warnings


def _say(summary: Dict[str, Any], keyed: bool, file: Any) -> None:
    """keyed: whether a key was given to compare the signature with."""
    from orchestrator.wire.plain import plain

    def line(text: str) -> None:
        print(plain(text, 4000), file=file)

    if summary["signed_by"]:
        line(
            f"the bundle is signed by key {summary['signed_by']}{'' if keyed else ', whose is yours to compare: --key'}"
        )
    counts = ", ".join(f"{name} {count:g}" for name, count in summary["predicted"].items())
    line(
        f"{summary['name']}, {summary['model']} model in {summary['engine']}: {many(summary['records'], 'record')}: {counts}"
    )
    figures = summary["figures"]
    if figures:
        from orchestrator.gateway.score_tables import LABELS, cell

        rest = [f"{LABELS[name]} {cell(figures, name)}" for name in _SAID if figures.get(name) is not None]
        if "majority" in figures:
            usual = f"always the most frequent class: {figures['majority']:.3f}"
            rest.insert(0, f"accuracy {cell(figures, 'accuracy')} ({usual})")
        line(f"on {many(figures['records'], 'record')} with a label: {', '.join(rest)}; intervals are of 95 %")
        if figures["warning"]:
            line(f"warning: {figures['warning']}")
    for warning in summary["warnings"]:
        line(f"warning: {warning}")
    if summary["out"] is not None:
        line(f"predictions: {summary['out']}")
