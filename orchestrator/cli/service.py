"""`edgeward gateway service`, `edgeward node service`: the systemd unit that runs what comes after `--`."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import urlsplit

_EPILOG = """everything after -- is what `edgeward {part} run` takes, for example:
  {example}
  sudo useradd --system --no-create-home edgeward
  sudo systemctl daemon-reload && sudo systemctl enable --now edgeward-{part}"""

_EXAMPLES = {
    "gateway": "edgeward gateway service --write /etc/systemd/system -- /etc/edgeward/edgeward.toml",
    "node": "edgeward node service --write /etc/systemd/system -- \\\n"
    "      --broker mqtts://gateway --name icu-1 --data /srv/records.csv",
}
_STATE_OPTION = {"gateway": "--out", "node": "--state"}

# What a systemd of 2018 (237, Ubuntu 18.04 of JetPack 4.6) does not know it skips with a warning; Type=exec it would refuse.
_UNIT = """# Written by `edgeward {part} service`; write it again rather than edit it.
[Unit]
Description=Edgeward {part}
Wants=network-online.target time-sync.target
After=network-online.target time-sync.target
StartLimitIntervalSec=600
StartLimitBurst=20
{mounts}
[Service]
Type=simple
User={user}
ExecStart={command}
# What was given is wrong (2): that does not get better by trying again; SIGTERM ends with 0, and the next start continues.
Restart=on-failure
RestartSec=10
RestartPreventExitStatus=2
# The signal goes to the main process; its broker and workers end with it.
KillMode=mixed
TimeoutStopSec=60
StateDirectory=edgeward-{part}
StateDirectoryMode=0700
UMask=0077
{writable}NoNewPrivileges=true
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=true
PrivateDevices=true
ProtectKernelTunables=true
ProtectKernelModules=true
ProtectControlGroups=true
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=true
RestrictRealtime=true
LockPersonality=true
SystemCallArchitectures=native
CapabilityBoundingSet=

[Install]
WantedBy=multi-user.target
"""


def register(verbs: Any, part: str) -> None:
    parser = verbs.add_parser(
        "service",
        help="print or write the systemd unit",
        description=f"The systemd unit of `edgeward {part} run`, checked as that command would be. Its state is in "
        f"/var/lib/edgeward-{part} unless {_STATE_OPTION[part]} says otherwise; its log in `journalctl -u edgeward-{part}`.",
        epilog=_EPILOG.format(part=part, example=_EXAMPLES[part]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--user", default="edgeward", help="whom it runs as (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="DIR", help=f"write DIR/edgeward-{part}.service, print nothing")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="-- ...", help=f"of `edgeward {part} run`")
    parser.set_defaults(run=lambda arguments: _run(arguments, part))


def _run(arguments: argparse.Namespace, part: str) -> int:
    from orchestrator.errors import UsageError

    options = arguments.options[1:] if arguments.options[:1] == ["--"] else arguments.options
    text = unit(part, options, arguments.user)
    if arguments.write is None:
        print(text, end="")
        return 0
    path = arguments.write / f"edgeward-{part}.service"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; print it instead, or use sudo") from error
    print(f"{path}: now `systemctl daemon-reload` and `systemctl enable --now edgeward-{part}`")
    return 0


def unit(part: str, options: List[str], user: str) -> str:
    """The unit's text. The options are parsed as `edgeward PART run` would (which ends the program if they are wrong)."""
    from orchestrator.cli.main import build_parser
    from orchestrator.errors import UsageError

    option = _STATE_OPTION[part]
    state_given = any(word == option or word.startswith(f"{option}=") for word in options)
    if not state_given:
        options = [*options, option, f"/var/lib/edgeward-{part}"]
    parsed = vars(build_parser(part).parse_args([part, "run", *options]))
    for word in options:
        if _has_password(word):
            raise UsageError(
                "the unit can be read by everybody, so no password goes into it: give the broker as "
                "mqtt://USER@HOST?password_file=/PATH, with that file 0600 and owned by the unit's user"
            )
    absolute = _absolute(options, parsed)
    written = {parsed["out" if part == "gateway" else "state"]} if state_given else set()
    if part == "node" and parsed["identity"] is not None:
        written.add(parsed["identity"])  # it remembers how far the ledger had come
    if parsed["log_file"] is not None:
        written.add(parsed["log_file"].parent)
    writable = "".join(f"ReadWritePaths={_quote(os.path.abspath(str(path)))}\n" for path in sorted(written))
    command = " ".join(_quote(word) for word in [*_program(), part, "run", *absolute])
    # A file that is not there is a wrong argument, unless what it lies on comes later.
    data = parsed.get("data") if part == "node" else None
    mounts = "" if data is None else f"RequiresMountsFor={_quote(os.path.dirname(os.path.abspath(str(data))))}\n"
    return _UNIT.format(part=part, user=user, command=command, writable=writable, mounts=mounts)


def _has_password(word: str) -> bool:
    text = word.partition("=")[2] if word.startswith("--") else word
    try:
        return "://" in text and urlsplit(text).password is not None
    except ValueError:  # no address
        return False


def _absolute(options: List[str], parsed: Dict[str, Any]) -> List[str]:
    """Options with every path made absolute: a service starts in /."""
    texts = {value for key, value in parsed.items() if key.endswith(("_cert", "_key", "_file")) and value}
    named = {str(value) for value in parsed.values() if isinstance(value, Path)} | {str(value) for value in texts}
    paths = {value: os.path.abspath(value) for value in named}
    out = []
    for word in options:
        name, equals, value = word.partition("=")
        out.append(f"{name}={paths[value]}" if equals and value in paths else paths.get(word, word))
    return out


def _program() -> List[str]:
    from orchestrator.wire.process import own_program

    script = Path(sys.executable).with_name("edgeward")
    return [str(script)] if script.is_file() else own_program("orchestrator.cli.main")


def _quote(word: str) -> str:
    """As systemd.service(5) reads a command line: % and $ doubled, quoted where it holds anything unusual."""
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return word if word and not set(word) & set(" \t'\"\\;") else f'"{word}"'
