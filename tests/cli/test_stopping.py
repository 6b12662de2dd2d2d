"""A process that is asked to stop hears it, wherever it is just then, and puts its things away undisturbed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
import ctypes, os, signal, sys, time
from orchestrator.cli.stopping import AGAIN_S, Stopped, stop_on_sigterm

def ask():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)

class Away:
    def __del__(self):
        ask()

def for_ever():
    while True:
        time.sleep(60)
"""
PLACES = {
    "at work": "ask()",
    "in a call that waits": "__import__('threading').Timer(0.3, ask).start()",
    "where something is put away": "Away()",
    "in a callback of a C library": "ctypes.CFUNCTYPE(None)(ask)()",
    "and again": "Away(); ask()",
}
ENDS = """
try:
    with stop_on_sigterm():
        {place}
        for_ever()
except Stopped:
    print("stopped")
"""
CLOSES = """
done = []
try:
    with stop_on_sigterm():
        try:
            ask()
        finally:
            for step in range(4):  # longer than until it is said again; others may say it, too
                time.sleep(AGAIN_S)
                ask()
                try:
                    raise OSError("of the closing")
                except OSError:
                    time.sleep(AGAIN_S)
                done.append(step)
except Stopped:
    print("stopped after", done)
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", HEAD + program], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("place", PLACES)
def test_it_is_heard_everywhere(place: str) -> None:
    assert run(ENDS.format(place=PLACES[place])) == "stopped"


def test_the_closing_is_not_disturbed() -> None:
    assert run(CLOSES) == "stopped after [0, 1, 2, 3]"
