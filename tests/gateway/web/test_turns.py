"""Turns at hashing a password, and pauses before them, whatever their clients do meanwhile."""

import asyncio
import random
from typing import List

import pytest

from orchestrator.gateway.web.turns import GUESSER, KNOWN, RANKS, STRANGER, BusyError, Pauses, Turns

ENOUGH_S = 60.0


@pytest.mark.parametrize("steps", range(6))
def test_who_leaves_as_the_turn_comes_takes_it_from_nobody(steps: int) -> None:
    """The one before ends, and one that waits is cancelled, some steps of the loop apart: in the same one, too."""

    async def scene() -> None:
        turns, leave = Turns(), asyncio.Event()

        async def hold() -> None:
            async with turns.turn(STRANGER):
                await leave.wait()

        async def want() -> str:
            async with turns.turn(STRANGER):
                return "in"

        first, second = asyncio.create_task(hold()), asyncio.create_task(want())
        await asyncio.sleep(0)
        leave.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert await asyncio.wait_for(want(), ENOUGH_S) == "in"
        assert first.exception() is None

    asyncio.run(scene())


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_that_comes_and_goes(seed: int) -> None:
    chance = random.Random(seed)
    inside: List[int] = []
    ended = dict.fromkeys(("in", "busy", "gone"), 0)

    async def one(turns: Turns, number: int) -> None:
        try:
            async with turns.turn(chance.choice((GUESSER, STRANGER, KNOWN))):
                inside.append(number)
                assert inside == [number]
                try:
                    await asyncio.sleep(chance.random() * 0.002)
                finally:
                    inside.remove(number)
            ended["in"] += 1
        except BusyError:
            ended["busy"] += 1
        except asyncio.CancelledError:
            ended["gone"] += 1

    async def scene() -> None:
        turns = Turns()
        tasks: List[asyncio.Task[None]] = []
        for number in range(4000):
            tasks.append(asyncio.create_task(one(turns, number)))
            if chance.random() < 0.5:
                chance.choice(tasks[-60:]).cancel()
            if number % 20 == 0:
                await asyncio.sleep(chance.random() * 0.01)
        done, waiting = await asyncio.wait(tasks, timeout=ENOUGH_S)
        assert not waiting, f"{len(waiting)} wait for ever"
        for task in done:
            if not task.cancelled():  # before its first step
                task.result()
        for rank in range(RANKS):
            async with turns.turn(rank):
                pass

    asyncio.run(scene())
    assert min(ended.values()) > 0


def test_pauses_of_those_who_left_make_room() -> None:
    async def scene() -> None:
        pauses = Pauses()
        tasks = [asyncio.create_task(pauses.wait(f"address {i % 300}", 0.05)) for i in range(900)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), BusyError, asyncio.CancelledError}
        assert not pauses.waiting

    asyncio.run(scene())
