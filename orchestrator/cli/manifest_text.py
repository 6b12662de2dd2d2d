"""What a bundle's manifest says, for people. It may be anybody's: print it with tables.say, which makes its texts plain."""

from pathlib import Path
from typing import Any, Mapping

from orchestrator.cli.tables import table
from orchestrator.gateway.score_tables import rows, shown_of
from orchestrator.wire.plain import many


def manifest_text(path: Path, manifest: Mapping[str, Any]) -> str:
    """Lines on model, operators, memory and figures, of a manifest that `verify_bundle` accepts."""
    if "trees" in manifest:
        return _of_trees(path, manifest)
    arena, output = manifest["arena"], manifest["output"]
    operators = ", ".join(f"{op['name']} x{op['count']}" for op in manifest["operators"])
    direct = f"{arena['direct_bytes']} bytes" if not arena["direct_refused"] else arena["direct_refused"]
    labels = _labels(manifest)
    lines = [
        f"{path}: {manifest['name']}, digest {manifest['model_digest']}",
        f"  input      int8 {manifest['input']['shape']}",
        f"  output     int8 {output['shape']}{labels}",
        *([f"             {manifest['origin']['output']}"] if "origin" in manifest else []),
        f"             scale {output['scale']:g}, zero point {output['zero_point']}",
        f"  operators  {operators}",
        f"  model      {manifest['files']['model.tflite']['bytes']} bytes",
        f"  arena      TFLM {arena['tflm_measured_bytes']} bytes measured ({arena['tflm_measured_on']}),",
        f"             {arena['tflm_bytes']} with margin; engine/direct {direct}",
    ]
    if "anomaly" in manifest:
        said = manifest["anomaly"]
        lines.append(
            f"  threshold  {said['threshold']:.6g}: a larger score is unusual; quantile {said['quantile']:g} of {said['of']}"
        )
    if "audio" in manifest:
        said = manifest["audio"]
        lines.append(
            f"  sound      {said['sample_rate_hz']} Hz, {said['channels']} features of {said['window_ms']} ms every "
            f"{said['step_ms']} ms; answers averaged over {many(said['averaged'], 'window')}"
        )
    if "float_model" in manifest:
        lines.append(f"  float      {', '.join(manifest['float_model']['files'])}: {manifest['float_model']['input']}")
    if manifest["accuracy"]:
        lines += ["", table(rows(shown_of(manifest["accuracy"]), manifest["labels"])), "Intervals are of 95 %."]
    return "\n".join(lines)


def _labels(manifest: Mapping[str, Any]) -> str:
    return f": {', '.join(manifest['labels'])}" if manifest["labels"] else ""


def _of_trees(path: Path, manifest: Mapping[str, Any]) -> str:
    output, trees = manifest["output"], manifest["trees"]
    sizes = ", ".join(f"{trees[name]} {name}" for name in ("nodes", "leaves"))
    return "\n".join(
        [
            f"{path}: {manifest['name']}, digest {manifest['model_digest']}",
            f"  trees      {trees['trees']} ({trees['of']}), {sizes}, depth {trees['depth']}",
            f"  input      int8 {manifest['input']['shape']}: codes of {', '.join(f['name'] for f in manifest['features'])}",
            f"  output     int8 {output['shape']}{_labels(manifest)}",
            *([f"             {manifest['origin']['output']}"] if "origin" in manifest else []),
            f"             scale {output['scale']:g}, zero point {output['zero_point']}",
            f"  model      {manifest['files']['model.trees']['bytes']} bytes",
            f"  arena      {manifest['arena']['direct_bytes']} bytes, in every firmware",
        ]
    )
