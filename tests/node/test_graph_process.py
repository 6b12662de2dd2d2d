"""The process a graph runs in: its answers, its ends, its limits, and what it cannot see."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, Tuple

import numpy as np
import pytest
from graph_samples import (
    Builder,
    gradient,
    gradients_by_hand,
    logits_by_hand,
    mutants,
    softmax_regression,
    training_file,
)

from orchestrator.errors import EdgewardError, GraphError, WireError
from orchestrator.node import graph_channel, graph_process, runtime
from orchestrator.node.graph_check import check_graph
from orchestrator.node.graph_file import Function, tflite_file
from orchestrator.node.graph_process import GraphProcess, Limits
from orchestrator.node.runtime import TrainingGraph
from orchestrator.wire.process import resident_memory_mib

GRAPH = softmax_regression()
PATIENT = Limits(600.0, 600.0, 600.0, 1000.0)


@pytest.fixture
def graph() -> Iterator[TrainingGraph]:
    with TrainingGraph(GRAPH, PATIENT) as opened:
        yield opened


def rows(count: int = 11, features: int = 13) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights, x, y)."""
    random = np.random.default_rng(2)
    x = random.standard_normal((count, features)).astype("f4")
    return random.standard_normal(2 * features + 2).astype("f4"), x, random.integers(0, 2, count).astype("i4")


@pytest.mark.parametrize("chunk_bytes", [1, 500, 1 << 18])
def test_answers_are_those_computed_by_hand(
    graph: TrainingGraph, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(runtime, "CHUNK_BYTES", chunk_bytes)
    weights, x, y = rows()
    right = gradients_by_hand(weights, x, y)
    np.testing.assert_allclose(np.stack(list(graph.record_gradients(weights, x, y))), right, atol=1e-5)
    np.testing.assert_allclose(graph.record_gradient(weights, x[3:4], y[3:4]), right[3], atol=1e-5)
    chosen = np.array([4, 0, 4])
    np.testing.assert_allclose(np.stack(list(graph.record_gradients(weights, x, y, chosen))), right[chosen], atol=1e-5)
    np.testing.assert_allclose(graph.gradient(weights, x[:3], y[:3]), right[:3].mean(0), atol=1e-5)
    np.testing.assert_allclose(graph.record_logits(weights, x), logits_by_hand(weights, x), atol=1e-5)
    np.testing.assert_allclose(graph.logits(weights, x), logits_by_hand(weights, x), atol=1e-5)


def test_no_rows_no_answers(graph: TrainingGraph) -> None:
    weights, x, y = rows(0)
    assert list(graph.record_gradients(weights, x, y)) == []
    assert graph.record_logits(weights, x).shape == (0, 2)


def test_a_record_that_is_not_finite_changes_no_other(graph: TrainingGraph) -> None:
    weights, x, y = rows()
    alone = np.stack(list(graph.record_gradients(weights, x, y)))
    for value in (np.nan, np.inf, 1e38):
        x[5] = value
        among = np.stack(list(graph.record_gradients(weights, x, y)))
        assert np.delete(among, 5, 0).tobytes() == np.delete(alone, 5, 0).tobytes()


def mixing(features: int, classes: int, batch: int) -> Function:
    """Logits of each record, with the mean over all records of the batch added: what one record is shows in all."""
    build = Builder()
    w, x = build.tensor([features * classes + classes]), build.tensor([batch, features])
    mean = build.add("MEAN", [x, build.constant([0], "int32")], keep_dims=True)
    shifted = build.add("ADD", [x, mean])
    head = build.add("SLICE", [shifted, build.constant([0, 0], "int32"), build.constant([batch, classes], "int32")])
    return build.function([w, x], [head])


def test_one_record_does_not_change_anothers_logits() -> None:
    functions = {"grad": gradient(13, 2, 4), "grad1": gradient(13, 2, 1), "infer": mixing(13, 2, 4)}
    weights, x, _ = rows()
    other = x.copy()
    other[2] = 100.0
    with TrainingGraph(training_file(functions), PATIENT) as graph:
        assert not np.array_equal(
            np.delete(graph.logits(weights, x), 2, 0), np.delete(graph.logits(weights, other), 2, 0)
        )
        same, changed = graph.record_logits(weights, x), graph.record_logits(weights, other)
        assert np.delete(same, 2, 0).tobytes() == np.delete(changed, 2, 0).tobytes()
        assert not np.array_equal(same[2], changed[2])


def test_weights_of_another_size_are_the_senders_fault(graph: TrainingGraph) -> None:
    weights, x, y = rows()
    with pytest.raises(WireError, match="weights of shape"):
        graph.record_gradient(weights[:-1], x, y)
    assert graph.record_gradient(weights, x, y).shape == (28,)


def test_graphs_of_equal_bytes_share_a_process_that_ends_with_the_last() -> None:
    weights, x, y = rows()
    first, second = TrainingGraph(GRAPH, PATIENT), TrainingGraph(GRAPH, PATIENT)
    first.record_gradient(weights, x, y)
    second.record_gradient(weights, x, y)
    pid = first.process.pid
    assert second.process.pid == pid
    first.close()
    assert second.record_gradient(weights, x, y).shape == (28,)
    second.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(GraphError, match="closed"):
        second.record_gradient(weights, x, y)


def test_a_process_that_ends_is_an_error_that_stays(graph: TrainingGraph) -> None:
    weights, x, y = rows()
    graph.record_gradient(weights, x, y)
    os.kill(graph.process.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(GraphError, match="ended before it answered"):
            graph.record_gradient(weights, x, y)
    with TrainingGraph(GRAPH, PATIENT) as again:
        assert again.record_gradient(weights, x, y).shape == (28,)


def test_a_process_that_does_not_answer_is_killed() -> None:
    weights, x, y = rows()
    process = GraphProcess(check_graph(GRAPH), Limits(600.0, 600.0, 0.2, 0.0))
    process._ready("grad1")
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(GraphError, match="within its time limit"):
        process.run("grad1", weights, x[:, np.newaxis], y[:, np.newaxis], np.ones((11, 1), "f4"))
    assert process.process.returncode == -signal.SIGKILL


FAKE = """
import struct, sys
REQUEST, ANSWER = struct.Struct("<4sBBxxIQ"), struct.Struct("<4sBxxxIQ")
def answer(mark, status, number, size, content):
    sys.stdout.buffer.write(ANSWER.pack(mark, status, number, size) + content)
    sys.stdout.buffer.flush()
def read():
    mark, kind, function, number, size = REQUEST.unpack(sys.stdin.buffer.read(REQUEST.size))
    return kind, number, sys.stdin.buffer.read(size)
answer(b"EGAN", 0, 0, 1, b"\\2")
kind, number, content = read()
answer(b"EGAN", 0, number, 0, b"")
kind, number, content = read()
{rest}
sys.stdin.buffer.read()
"""


@pytest.mark.parametrize(
    ("rest", "says"),
    [
        ('answer(b"EVIL", 0, number, 336, bytes(336))', "an invalid answer"),
        ('answer(b"EGAN", 0, number + 1, 336, bytes(336))', "an invalid answer"),
        ('answer(b"EGAN", 0, number, 1 << 62, b"")', "an invalid answer"),
        ('answer(b"EGAN", 0, number, 332, bytes(332))', "an invalid answer"),
        ('answer(b"EGAN", 1, number, 0, b"")', "cannot run"),
        ('answer(b"EGAN", 0, number, 336, bytes(335)); sys.exit()', "ended before"),
        ("sys.exit()", "ended before"),
        ('answer(b"EGAN", 0, number, 336, bytes(112) + b"\\1" * 224)', "after another one"),
    ],
)
def test_answers_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str, says: str) -> None:
    """A process that has been taken over: it answers whatever it likes."""
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE.format(rest=rest))
    monkeypatch.setattr(graph_channel, "CHILD", fake)
    process = GraphProcess(check_graph(GRAPH), PATIENT)
    with pytest.raises(GraphError, match=says):
        process.seconds("grad1")
    assert process.broken


def test_a_graph_that_answers_a_record_by_the_one_before_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a kernel keep something after all: the same row is answered again after another one."""
    fake = tmp_path / "fake.py"
    steady = 'answer(b"EGAN", 0, number, 336, bytes(112) + b"\\1" * 112 + bytes(112))'
    steady = f"while True:\n    {steady}\n    kind, number, content = read()"
    fake.write_text(FAKE.format(rest=steady))
    monkeypatch.setattr(graph_channel, "CHILD", fake)
    process = GraphProcess(check_graph(GRAPH), PATIENT)
    assert process.seconds("grad1") > 0
    process.close()


def test_one_busy_moment_does_not_set_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers wait for multiples of what random rows took: measured once, on a busy machine, that held up a whole run."""
    clock, took = [0.0], iter([0.5, 0.004, 0.3, 0.002, 0.006])

    def call(self: GraphProcess, name: str, *_: Any) -> np.ndarray:
        clock[0] += next(took)
        return np.zeros((3, 1), np.float32)

    monkeypatch.setattr(GraphProcess, "_call", call)
    monkeypatch.setattr(graph_process, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    process = GraphProcess(check_graph(GRAPH), PATIENT)
    process._seconds.clear()
    assert process._try("grad1", process._graph.functions["grad1"]) == pytest.approx(0.001)
    process.close()


def test_a_closed_process_says_so_and_reads_from_no_other_file(tmp_path: Path) -> None:
    """Descriptors are given again: one of its pipes may be any file by then."""
    process = GraphProcess(check_graph(GRAPH), PATIENT)
    process.close()
    other = tmp_path / "other"
    other.write_bytes(bytes(100))
    opened = [other.open("rb", buffering=0) for _ in range(8)]
    with pytest.raises(EdgewardError, match="ended before"):
        process.confinement()
    assert [file.tell() for file in opened] == [0] * 8
    for file in opened:
        file.close()


def test_a_machine_that_cannot_start_it_is_not_the_graphs_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text("raise SystemExit(3)")
    monkeypatch.setattr(graph_channel, "CHILD", fake)
    with pytest.raises(EdgewardError, match="does not start") as caught:
        GraphProcess(check_graph(GRAPH), PATIENT).seconds("grad1")
    assert not isinstance(caught.value, GraphError)


LOOK = """
import os, sys
opened = sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + n))
kinds = [os.readlink("/proc/self/fd/%d" % n).split(":")[0] for n in opened]
open({out!r}, "w").write(repr((kinds, sorted(os.environ), os.getcwd(), os.getpgid(0) == os.getpid(), sys.flags.isolated)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "seen"
    look = tmp_path / "look.py"
    look.write_text(LOOK.format(out=str(out)))
    monkeypatch.setattr(graph_channel, "CHILD", look)
    monkeypatch.setenv("EDGEWARD_SECRET", "1")
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        with pytest.raises(EdgewardError):
            GraphProcess(check_graph(GRAPH), PATIENT).seconds("grad1")
    kinds, environment, folder, leads, isolated = ast.literal_eval(out.read_text())
    assert kinds == ["pipe", "pipe", "/dev/null"]
    assert not set(environment) - {
        *("LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL"),
        *("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"),
    }
    assert (folder, leads, isolated) == ("/", True, 1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_running_process_is_confined(graph: TrainingGraph) -> None:
    weights, x, y = rows()
    graph.record_gradient(weights, x, y)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{graph.process.pid}/status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    limits = Path(f"/proc/{graph.process.pid}/limits").read_text().splitlines()
    hard = {line[:26].strip(): line[26:].split()[1] for line in limits[1:]}
    for name in ("Max file size", "Max core file size", "Max processes", "Max open files"):
        assert hard[name] == "0", name
    assert int(hard["Max address space"]) < 4 << 30
    assert int(hard["Max data size"]) < 1 << 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel says it on Linux only")
def test_it_ends_with_the_node(tmp_path: Path) -> None:
    """Also where the node is killed and cannot end it."""
    program = tmp_path / "node.py"
    sample = Path(__file__).parents[1] / "graph_samples.py"
    program.write_text(
        f"import os, sys, signal\nsys.path.insert(0, {str(sample.parent)!r})\n"
        "from graph_samples import softmax_regression\nfrom orchestrator.node.runtime import TrainingGraph\n"
        "graph = TrainingGraph(softmax_regression())\ngraph.record_seconds()\n"
        "print(graph.process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    status = Path(f"/proc/{int(done.stdout)}/status")
    for _ in range(600):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("the process outlives its node")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_is_small(graph: TrainingGraph) -> None:
    """A node is about 55 MiB without it, and 100 with it at most."""
    weights, x, y = rows(500)
    list(graph.record_gradients(weights, x, y))
    graph.record_logits(weights, x)
    assert 10 < resident_memory_mib(str(graph.process.pid)) < 45


def test_mutants_that_pass_run_or_fail_alone() -> None:
    """Damaged files that are read as graphs, each in a real process: an answer or GraphError, and no process is left."""
    weights, x, y = rows(3)
    seen, pids = set(), []
    for mutant in mutants(GRAPH, 700, 9):
        try:
            content = check_graph(mutant).digest()
        except GraphError:
            continue
        if content in seen:
            continue  # damaged where the runtime is shown nothing: it gets the same bytes again
        seen.add(content)
        try:
            with TrainingGraph(mutant, PATIENT) as graph:
                pids.append(graph.process.pid)
                assert len(list(graph.record_gradients(weights, x, y))) == 3
                graph.record_logits(weights, x)
        except GraphError:
            continue
    assert len(seen) > 3
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
def test_what_crashes_the_runtime_ends_the_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the check let something through: damaged files that are shown to the runtime as they are."""
    checked = check_graph(GRAPH)
    whole = tflite_file(checked.functions["grad1"])
    ended = 0
    for mutant in mutants(whole, 25, 4):
        monkeypatch.setattr(graph_process, "tflite_file", lambda function, mutant=mutant: mutant)
        process = GraphProcess(checked, PATIENT)
        try:
            process.seconds("grad1")
        except GraphError:
            ended += 1
            assert process.broken
        finally:
            process.close()
        assert process.process.returncode is not None
    assert ended > 5
