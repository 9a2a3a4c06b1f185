"""Reads begin when their answers will fit."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from node.answer_room import AnswerRoom


async def test_no_more_reads_are_begun_than_fit_as_large_as_they_lately_were():
    room, begun = AnswerRoom(1000, 250, 10), []

    async def read(number: int) -> None:
        await room.enter()
        begun.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(read, number)
            await trio.testing.wait_all_tasks_blocked()
        assert begun == [0, 1, 2, 3] and room.waiting == 6
        room.leave(900)  # a large one: the others, too, may be
        await trio.testing.wait_all_tasks_blocked()
        assert len(begun) == 4
        for _ in range(3):
            room.leave(0)
        room.settle(0)
        await trio.testing.wait_all_tasks_blocked()
        assert begun == [0, 1, 2, 3, 4], "one at a time while they are large"
        for _ in range(12):
            room.leave(1)
            room.settle(0)
            await trio.testing.wait_all_tasks_blocked()
            if len(begun) == 10:
                break
        assert sorted(begun) == list(range(10)) and not room.waiting  # several are let in at once


async def test_one_that_waits_and_is_cancelled_has_not_entered():
    room = AnswerRoom(100, 100, 1)
    await room.enter()
    with trio.move_on_after(0) as waited:
        await room.enter()
    assert waited.cancelled_caught and not room.waiting
    room.leave(0)
    with trio.fail_after(1):
        await room.enter()


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60))
def test_whoever_waits_is_let_in_once_everything_was_taken(answers):
    async def play() -> None:
        room, done = AnswerRoom(1000, 100, 1), 0

        async def read(size: int) -> None:
            nonlocal done
            await room.enter()
            await trio.lowlevel.checkpoint()
            room.leave(size)
            done += 1

        async with trio.open_nursery() as nursery:
            for size, settles in answers:
                nursery.start_soon(read, size)
                if settles:
                    room.settle(0)
            while done < len(answers):
                await trio.testing.wait_all_tasks_blocked()
                room.settle(0)
        assert not room.waiting

    trio.run(play)
