"""The commands of `edgeward` in the order `--help` shows them, each with its line there.

Each is a module of this package with `register(subparsers)`. The lines stand here so that help imports none of them.
"""

from typing import Dict

COMMANDS: Dict[str, str] = {
    "demo": "train on several nodes, quantize, run it on a virtual board",
    "init": "write edgeward.toml, policy.toml and ward.toml for the columns of a CSV",
    "data": "describe data, map and hold them against a task; invent some",
    "analyze": "run the analysis of an edgeward.toml, or try it on files here",
    "simulate": "try a federation: its whole run, with all nodes in this process",
    "anonymize": "write a k-anonymous copy of a table, and what it shows",
    "link": "count persons two hospitals both have, showing none of the others",
    "similar": "search patients of other hospitals by encrypted codes",
    "gateway": "run the orchestrator of a federation",
    "authority": "issue and revoke certificates away from the gateway",
    "node": "take part in a federation with this machine's data",
    "keyholder": "hold the key of encrypted sums, away from the gateway",
    "runs": "list, show, compare, plot and export a gateway's runs",
    "model": "export, verify and run models for boards; list those a gateway made",
    "predict": "predict labels of new rows with the model in a bundle",
    "privacy": "plan a privacy budget; read a model's privacy statement",
    "board": "list, ask, update, measure and simulate boards",
    "flash": "write a model, or firmware and model, to a board",
    "monitor": "watch the records of boards",
    "score": "score encrypted records with a linear model",
    "attack": "attack a task's own training; hold the result against its privacy claim",
    "doctor": "check broker, certificates, clock, disk, runtime, boards, data",
    "completion": "print a script that completes edgeward's words in a shell",
}

RENAMED = {"audit": "attack"}
"""What a command was called in 0.1; understood until 0.3. (The gateway's audit log is another thing.)"""
