"""From edgeward.toml to a bundle: prepare the training graph, run the rounds, quantize, package.

What needs TensorFlow happens in worker processes (model_export.client), so this process stays small. Everything is in
one folder and a run that was cut off continues where it was.

OUT/gateway.sqlite  journal, weights, results        OUT/bundle/        what a board needs
OUT/audit.jsonl     who took part in what
OUT/result.json     figures of the run               OUT/work/          inputs of the quantization
OUT/models/         every bundle so far, with its lineage
OUT/analysis/       of analyses, which make no bundle: a folder for each run
OUT/evaluation/     rows of [evaluation] as int8, and what each engine gave for them

OUT/work and OUT/evaluation hold rows of the data: these are their owner's alone, and no bundle has them.
"""

import dataclasses
import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Optional, Sequence, Tuple, Type

import numpy as np

from orchestrator.data.dataset import load_dataset
from orchestrator.errors import EdgewardError, UsageError
from orchestrator.files import replace_file
from orchestrator.gateway import analysed
from orchestrator.gateway.analysed_nodes import over
from orchestrator.gateway.audit import AUDIT_FILE
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import KINDS, OwnBroker
from orchestrator.gateway.bundling import quantize
from orchestrator.gateway.calibration import Calibration
from orchestrator.gateway.clipped import in_words, of_run
from orchestrator.gateway.config import check_config
from orchestrator.gateway.evaluation import EvaluationSet, Evaluator
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.personalization import NO_BUNDLE
from orchestrator.gateway.preparation import open_or_prepare
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.registry import keep_model
from orchestrator.gateway.run import RunResult, Trained, final_weights, open_run, run_in
from orchestrator.gateway.running import Held
from orchestrator.gateway.scored_file import model_path
from orchestrator.gateway.settings import Config
from orchestrator.gateway.simulated import Simulated, keep_apart
from orchestrator.gateway.spent_elsewhere import spent_elsewhere
from orchestrator.gateway.stated_figures import of_report, state_figures
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.privacy.accounting_process import statement_apart
from orchestrator.privacy.ckks_blocks import tenseal
from orchestrator.privacy.participation import public_report, secret_sample
from orchestrator.wire.link import Broker, BrokerAddress, check_reachable
from orchestrator.wire.process import peak_memory_mib
from orchestrator.wire.task import Task, task_from_dict


def run_federation(
    config: Config,
    base: Path,
    out: Path,
    progress: Progress,
    connect_timeout_s: float = 30.0,
    simulated: Optional[Simulated] = None,
    again: Sequence[str] = (),
) -> Dict[str, Any]:
    """Runs (or continues) the federation of `config` once; relative data paths start at `base`.

    `simulated`: the nodes, where they are no processes of their own; then there is no broker, no identity and no dashboard.
    `again`: the command that would do the same, for a dashboard that starts it again; empty where no page may.
    Returns what it also writes to OUT/result.json. Raises EdgewardError subclasses for everything a user can fix.
    """
    with Orchestrator(config, base, out, progress, connect_timeout_s, simulated, again) as orchestrator:
        return orchestrator.train(1)


class Orchestrator:
    """Broker, store and data of one federation; `train` runs it from the first weights, or on from an earlier result."""

    def __init__(
        self,
        config: Config,
        base: Path,
        out: Path,
        progress: Progress,
        connect_timeout_s: float,
        simulated: Optional[Simulated] = None,
        again: Sequence[str] = (),
    ) -> None:
        check_config(config, base)  # refused before anything is prepared
        if config.task.aggregation.key_holder:
            tenseal()
        self._config, self._base, self._out = config, base, out
        self._connect_timeout_s, self._simulated = connect_timeout_s, simulated
        self._model = _absolute_model(config.task, base)
        self._rows = _evaluation_rows(config, base)
        self._calibration = _calibration(config, base)
        self._show = self._show_last = progress  # the last when the audit log is closed
        self._again = tuple(again)
        self._dashboard: Optional[DashboardProcess] = None
        self._open_things = ExitStack()

    def __enter__(self) -> "Orchestrator":
        self._out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(Held(self._out))  # before anything else of the folder, or a port, is opened
            keep_apart(self._out, self._simulated is not None)
            self._authority = _authority(self._config, self._base)
            if self._authority is not None:
                stack.callback(self._authority.close)
            self.address: Broker
            self._broker: Optional[OwnBroker] = None
            if self._simulated is not None:
                self.address = self._simulated.broker
            else:
                self.address, self._broker = _broker(self._config, self._authority, self._out)
            if isinstance(self.address, BrokerAddress) and self._broker is None:
                check_reachable(self.address, self._connect_timeout_s)  # before minutes of preparation, not after
            elif self._broker is not None:
                stack.callback(self._broker.close)
                self._broker.start()  # nodes find it and wait there, however long the preparation takes
            self._store = Store(self._out / "gateway.sqlite")
            stack.callback(self._store.close)
            self._show = self._store.audit(self._out / AUDIT_FILE).progress(self._show)
            settings = _dashboard_settings(self._config, self._base, self._authority)
            if settings is not None and isinstance(self.address, BrokerAddress):
                federation = self._config.gateway.federation
                about = (self._out, settings, federation, self.address, self._again)
                self._dashboard = stack.enter_context(DashboardProcess(*about))
                self._show({"event": "dashboard", "url": self._dashboard.url, "warning": self._dashboard.warning})
            self._open_things = stack.pop_all()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._open_things.__exit__(kind, error, trace)
        if self._dashboard is not None and self._dashboard.stayed:
            minutes = self._config.gateway.dashboard_minutes
            said = {"url": self._dashboard.url, "minutes": minutes, "pid": self._dashboard.pid}
            self._show_last({"event": "dashboard_stays", **said})

    def progress(self, event: Dict[str, Any]) -> None:
        """To those who watch: the caller, and the dashboard."""
        if self._dashboard is not None:
            self._dashboard.tell(event)
        self._show(event)

    def trained(self) -> int:
        """How many trainings of this task the store knows, finished or not."""
        number = 0
        while self._store.find_run(self._run_id(number + 1)) is not None:
            number += 1
        return number

    def _run_id(self, number: int) -> str:
        return run_in(self._store, self._config.task, number)

    def train(self, number: int) -> Dict[str, Any]:
        """The `number`-th training (from 1), up to its bundle; one that was begun is continued."""
        run = self._run_id(number)
        task, graph = self._open(run, number)
        if not task.trains:
            analysed.be_ready_to_draw()
        if self._broker is not None:
            self._broker.restart_if_dead()
        evaluate = Evaluator(graph, self._rows, task.schema) if self._rows is not None else None
        settings = self._config.gateway
        gateway = Gateway(
            self._store,
            run,
            settings.federation,
            self.address,
            self._broker,
            evaluate,
            self.progress,
            self._authority,
            sites=settings.sites,
        )
        result = self._run(gateway)
        broker_mib = peak_memory_mib(str(self._broker.pid)) if self._broker else None
        claim = statement_apart(task, result.records, number, result.observed(self._authority is not None))
        if self._simulated is not None:
            claim["simulated"] = True
        claim["other_runs"] = spent_elsewhere(self._store, run, result.records)
        clipped = of_run(result.rounds)
        if clipped is not None:
            claim["clipped"] = in_words(clipped, task.privacy.clip_norm)
        report = run_report(run, task, result, claim, {"gateway": peak_memory_mib(), "broker": broker_mib})
        if self._simulated is not None:
            report["memory_mib"] = {"all in one process": peak_memory_mib()}
            report["wire"]["counted"] = "payload only: there were no sockets"
        if not task.trains:
            report.update(self._analysis(run, task, claim, result.records))
        elif task.training.personal_parameters:
            report.update(bundle=None, digest="", no_bundle=NO_BUNDLE)
        else:
            trained = Trained(result.weights, result.mean, result.std, result.heads, len(result.heads_left_out))
            if result.heads_left_out:
                names = ", ".join(result.heads_left_out)
                self.progress({"event": "heads", "run": run, "left_out": result.heads_left_out, "names": names})
            data = (self._rows, self._calibration)
            made = quantize(
                task, self._model, trained, *data, claim, self._out, self.progress, self._authority, result.rounds
            )
            report.update(made)
            signing_key = None if self._authority is None else self._authority.signing_key
            state_figures(self._out / "bundle", of_report(report, task), signing_key)
            signed_by = None if self._authority is None else self._authority.key_id
            self.progress({"event": "bundle", "run": run, "digest": report["digest"], "signed_by": signed_by})
        report = stated({**report, "clipped": clipped}, task)
        write_json(self._out / "result.json", report)
        self._store.put_report(run, self.address.clock.time(), report)
        if report["bundle"]:
            keep_model(self._out, run)
        return report

    def _run(self, gateway: Gateway) -> RunResult:
        if self._simulated is None:
            return gateway.run(self._connect_timeout_s)
        gateway.begin()
        try:
            self._simulated.serve(gateway)
        finally:
            gateway.close()
        return gateway.result()

    def _analysis(self, run: str, task: Task, claim: Dict[str, Any], joined: Dict[str, int]) -> Dict[str, Any]:
        """Writes the result of an analysis; returns what a report says of it. joined: node -> records as it stated them."""
        result = analysed.result_of(self._store, run, task, self._config.gateway.minimum_cell)
        whose = over(self._store, run, task, joined)
        result.notes.extend(whose.notes())
        folder = analysed.write_result(self._out, run, result, claim)
        self.progress({"event": "tables", "run": run, "folder": str(folder)})
        made = {"analysis": {**analysed.report_of(result, task), "over": whose.as_dict(), "folder": str(folder)}}
        return {**made, "bundle": None, "digest": "", "no_bundle": analysed.no_bundle(task)}

    def _open(self, run: str, number: int) -> Tuple[Task, bytes]:
        if number == 1 or self._store.find_run(run) is not None:
            return open_or_prepare(self._store, run, self._config.task, self._model, self._out, self.progress)
        before = self._run_id(number - 1)
        stored = self._store.find_run(before)
        if stored is None:
            raise EdgewardError(f"training {number} goes on from run {before}, which the store does not have")
        task = task_from_dict(stored[0], f"stored run {before}")
        return open_run(self._store, run, task, stored[1], final_weights(self._store, before, task))


def _calibration(config: Config, base: Path) -> Optional[Calibration]:
    """The calibration rows, if any are named."""
    if config.calibration:
        return Calibration(load_dataset(base / config.calibration, config.task.schema).x, config.calibration_public)
    return None


def _evaluation_rows(config: Config, base: Path) -> Optional[EvaluationSet]:
    if not config.evaluation:
        return None
    sets = {group: load_dataset(base / path, config.task.schema) for group, path in sorted(config.evaluation.items())}
    groups = [group for group, data in sets.items() for _ in range(data.records)]
    return EvaluationSet(
        np.concatenate([d.x for d in sets.values()]), np.concatenate([d.y for d in sets.values()]), groups
    )


def _absolute_model(task: Task, base: Path) -> Dict[str, Any]:
    """The model as the worker needs it: a file of the user's is named relative to edgeward.toml. Of an analysis with a model file
    its `path`.
    """
    scored = model_path(task, base)
    if scored is not None:
        return {"path": scored}
    model = dict(task.model)
    if model.get("kind") == "keras" and isinstance(model.get("path"), str):
        model["path"] = str((base / model["path"]).resolve())
    return model


def _authority(config: Config, base: Path) -> Optional[Authority]:
    if not config.gateway.identity:
        return None
    authority = Authority(base / config.gateway.identity)
    if authority.federation != config.gateway.federation:
        raise UsageError(
            f"[gateway] federation is {config.gateway.federation!r}, the identity in {authority.folder} is of "
            f"{authority.federation!r}"
        )
    return authority


def _broker(config: Config, authority: Optional[Authority], out: Path) -> Tuple[BrokerAddress, Optional[OwnBroker]]:
    settings = config.gateway
    if settings.broker in KINDS:
        own = OwnBroker(settings.broker, settings.host, settings.port, authority, out)
        return own.address, own
    address = BrokerAddress.parse(settings.broker, settings.ca_file or None)
    return (address if authority is None else authority.secure(address)), None


def _dashboard_settings(config: Config, base: Path, authority: Optional[Authority]) -> Optional[WebSettings]:
    wanted = config.gateway
    if not wanted.dashboard:
        return None
    certificate, key = (base / name if name else None for name in (wanted.dashboard_cert, wanted.dashboard_key))
    settings = dataclasses.replace(
        WebSettings.parse(wanted.dashboard, certificate, key), stay_s=60 * wanted.dashboard_minutes
    )
    if authority is None or settings.tls or settings.loopback:
        return settings
    return dataclasses.replace(
        settings, certificate=authority.folder / "gateway.crt", key=authority.folder / "gateway.key"
    )


def run_report(
    run: str, task: Task, result: RunResult, claim: Dict[str, Any], memory: Dict[str, Any]
) -> Dict[str, Any]:
    counted = [n for n in result.nodes.values() if "bytes_up_per_round" in n]
    if counted:
        up, down = ([n[f"bytes_{way}_per_round"] for n in counted] for way in ("up", "down"))
    else:  # a run that was cut off: the nodes' sockets were not seen from beginning to end
        up, down = ([r[f"bytes_{way}"] / max(1, r["updates"]) for r in result.rounds] for way in ("up", "down"))
    return {
        "run": run,
        "task": task.name,
        "nodes": len(result.records),
        "rounds": len(result.rounds),
        "privacy": claim,
        "per_round": result.rounds,
        "wire": {
            "bytes_up_per_node_round": float(np.mean(up)),
            "bytes_down_per_node_round": float(np.mean(down)),
            "float32_bytes": 4 * int(result.weights.size if task.trains else task.training.parameters),
            "codec": task.travels_as,
            "counted": "on the nodes' sockets" if counted else "message bodies only: the run was cut off and continued",
        },
        "memory_mib": {
            "gateway": memory["gateway"],
            "broker": memory["broker"],
            "nodes": [n.get("memory_mib") for _, n in sorted(result.nodes.items())],
        },
        "node_processes": {name: figures for name, figures in sorted(result.nodes.items())},
    }


def stated(report: Dict[str, Any], task: Task) -> Dict[str, Any]:
    """The report as it is kept and shown: without who was in which round where that is secret."""
    return public_report(report) if secret_sample(task) else report


def write_json(path: Path, data: Dict[str, Any]) -> None:
    """Writes it whole or not at all, as indented JSON."""
    replace_file(path, (json.dumps(data, indent=2) + "\n").encode())
