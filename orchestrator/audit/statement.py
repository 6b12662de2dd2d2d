"""An audit's result in a bundle's own privacy statement: manifest.json, and the page made of it."""

import hashlib
import shlex
from pathlib import Path
from typing import Any, Dict

from model_export.errors import ExportError
from model_export.manifest import MANIFEST, SIGNATURE, read_manifest
from model_export.signing import replace_file, replace_manifest
from orchestrator.errors import GivenError, UsageError
from orchestrator.privacy.statement_page import markdown

PAGE = "privacy.md"


def summary(report: Dict[str, Any]) -> Dict[str, Any]:
    """What the statement says of an audit: figures a reader can hold against the claim."""
    canaries, attack = report["canaries"], report["membership"]
    best = max(canaries["bounds"], key=lambda bound: float(bound["epsilon"] / bound["claimed"]))
    return {
        "verdict": report["verdict"],
        "epsilon_at_least": round(best["epsilon"], 4),
        "epsilon_claimed": round(best["claimed"], 4),
        "at_delta": best["delta"],
        "confidence": report["confidence"],
        "canaries": canaries["per_run"] * canaries["runs"],
        "membership_auc": round(attack["auc"], 4),
        "inversion_error_plain": report["inversion"].get("plain"),
        "inversion_error_protected": report["inversion"].get("protected"),
    }


def check_claim(bundle: Path) -> Dict[str, Any]:
    """The manifest of a bundle that claims something; UsageError for anything else, before hours of work for its statement."""
    if not (bundle / MANIFEST).is_file():
        raise UsageError(f"--statement {bundle}: no bundle; name the folder with {MANIFEST}, such as federation/bundle")
    try:
        manifest = read_manifest(bundle)
    except ExportError as error:
        raise GivenError(f"--statement {bundle}: {error}") from error
    if (manifest["privacy"] or {}).get("epsilon") is None:
        raise UsageError(f"--statement {bundle}: there is no privacy claim in it")
    return manifest


def write_audit(bundle: Path, report: Dict[str, Any]) -> str:
    """Puts the result into the bundle's statement, the page first, so that a cut leaves a bundle whose check fails.

    Returns what is left to do: a signature does not cover the new statement; "" where there is none. Raises UsageError where
    the bundle states another claim than the audited one, EdgewardError where it cannot be read.
    """
    manifest = check_claim(bundle)
    stated = manifest["privacy"]
    if report["canaries"] is None:
        raise UsageError(f"{bundle}: there is no privacy claim in it, or none was audited")
    about = (stated["unit"], stated["delta"])
    if about != (report["unit"], report["claim"]["delta"]) or report["broken"]:
        raise UsageError(
            f"{bundle}: states unit {about[0]!r} at delta {about[1]:g}; the audit was of unit {report['unit']!r} at delta "
            f"{report['claim']['delta']:g}{', of a broken build' if report['broken'] else ''}"
        )
    stated = {**stated, "audit": summary(report)}
    if "page_sha256" in stated:
        page = markdown(stated).encode()
        stated["page_sha256"] = hashlib.sha256(page).hexdigest()
        replace_file(bundle / PAGE, page)
    replace_manifest(bundle, {**manifest, "privacy": stated})
    if not (bundle / SIGNATURE).exists():
        return ""
    again = f"edgeward model sign {shlex.quote(str(bundle))} --key FILE"
    return f"{bundle}: its signature does not cover the new statement; sign it again: {again}"
