"""An analysis tried in this process: files in place of nodes, plain sums in place of secure ones, noise that is simulated.

For the author of a task, on invented or public rows. Nothing is protected, charged or sent.
"""

import dataclasses
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from orchestrator.analyses.agents import PeerAnalysis, converse
from orchestrator.analyses.base import Result, State, Total
from orchestrator.analyses.registry import analysis_of, scored_by, spelled_out
from orchestrator.data.dataset import Dataset, clamped_columns, load_for
from orchestrator.errors import UsageError
from orchestrator.gateway.analysed import deviation_of
from orchestrator.gateway.published import published
from orchestrator.gateway.scored_file import model_of
from orchestrator.node.analysed import unit_vectors
from orchestrator.node.scores import with_scores
from orchestrator.privacy import terms
from orchestrator.privacy.accounting_process import plan_apart
from orchestrator.wire.task import Task


class Tried(NamedTuple):
    """epsilon: what a run of it would spend; None without privacy. deviation: standard deviation of the noise on each sum.

    clamped: of each file, what its owner should hear of columns with values beyond their range.
    """

    result: Result
    records: List[int]
    rounds: int
    epsilon: Optional[float]
    deviation: float
    clamped: List[List[str]]


def try_analysis(
    task: Task, files: Sequence[Path], seed: int = 0, minimum: int = 0, model: Optional[Path] = None
) -> Tried:
    """What the task's analysis comes to over these files, one a node. minimum: least cell that is shown; model: the file that it
    scores by, where it has one.

    UsageError where it is not one, DataError for a file.
    """
    if task.trains:
        raise UsageError(
            "the task trains a model: [task.analysis] names what is to be computed; try training by `edgeward demo`"
        )
    task, epsilon = planned(task)
    analysis = analysis_of(task)
    content = model_of(scored_by(task), model)
    sites = [with_scores(analysis, content, load_for(path, task)) for path in files]
    return try_planned(task, sites, seed, epsilon, minimum)


def planned(task: Task) -> Tuple[Task, Optional[float]]:
    """(a task with an analysis, as a gateway announces it; what a run of it spends, None where nothing is planned)."""
    task = spelled_out(task)
    training = dataclasses.replace(task.training, parameters=analysis_of(task).sums.size)
    return plan_apart(dataclasses.replace(task, training=training))


def try_planned(
    task: Task, sites: Sequence[Dataset], seed: int = 0, epsilon: Optional[float] = None, minimum: int = 0
) -> Tried:
    """The same of a task that is `planned`, over data that are here."""
    analysis, deviation = analysis_of(task), deviation_of(task, len(sites))
    draw = np.random.default_rng(seed)
    asked, rounds = analysis.begin(task.seed), 0
    state: State = {}
    for _ in range(analysis.rounds):
        values = np.sum(_answers(task, asked, sites), axis=0)
        if deviation:
            values = values + draw.normal(0.0, deviation, values.shape)
        asked, folded = analysis.fold(asked, Total(values, deviation))
        state, rounds = {**state, **folded.state}, rounds + 1
        if folded.done:
            break
    clamped = [[text for _, text in clamped_columns(site, task.schema)] for site in sites]
    result = published(analysis, state, terms.counted(task.privacy), minimum)
    return Tried(
        result, [site.records for site in sites], rounds, epsilon if task.privacy.on else None, deviation, clamped
    )


def _answers(task: Task, asked: np.ndarray, sites: Sequence[Dataset]) -> List[np.ndarray]:
    """Of each node: its sum, or what its agent comes to in an exchange with the others."""
    analysis = analysis_of(task)
    question = analysis.question(asked)
    if not isinstance(analysis, PeerAnalysis) or not analysis.exchanges(question):
        return [_sum(task, asked, site) for site in sites]
    nodes = analysis.exchange.graph.nodes
    if len(sites) != len(nodes):
        raise UsageError(f"{len(sites)} files in place of {len(nodes)} nodes: give one for each")
    agents = {node: analysis.agent(question, node, site.x) for node, site in zip(nodes, sites)}
    converse(agents)
    return [agent.answer() for agent in agents.values()]


def _sum(task: Task, asked: np.ndarray, site: Dataset) -> np.ndarray:
    """A node's: each unit's vector clipped as the task says."""
    analysis = analysis_of(task)
    found = np.zeros(analysis.sums.size)
    for vectors in unit_vectors(analysis, asked, site, terms.unit_of(task.privacy)):
        if task.privacy.on:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors * (task.privacy.clip_norm / np.maximum(lengths, task.privacy.clip_norm))
        found += np.ascontiguousarray(vectors.T).sum(axis=1)
    return found
