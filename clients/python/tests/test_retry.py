"""When a request is sent again, decided on a clock of its own."""

import pytest

from mms_client import errors
from mms_client.retry import Attempts

LOST, SILENT, GARBAGE = errors.ConnectionLost("x"), errors.NoReply("x"), errors.BadReply("x")


def full(seconds: float) -> errors.QueueFull:
    return errors.QueueFull("x", details={"retry_after_ms": seconds * 1000})


class World:
    """Time that passes when it is told to."""

    def __init__(self, timeout=10.0, retries=3, repeatable=True, shared=False):
        self.now = 100.0
        self.attempts = Attempts(
            timeout, retries, repeatable=repeatable, shared=shared, clock=lambda: self.now, chance=lambda: 1.0
        )

    def pause_after(self, error):
        """None: the error is final."""
        try:
            return self.attempts.after(error)
        except errors.MmsError as raised:
            assert raised is error
            return None


def test_pauses_grow_and_attempts_end():
    world = World()
    assert [world.pause_after(LOST) for _ in range(4)] == [0.05, 0.1, 0.2, None]


def test_after_silence_there_was_waiting_enough():
    assert World().pause_after(SILENT) == 0.0


def test_the_server_says_when():
    world = World()
    assert [world.pause_after(full(2)), world.pause_after(full(0))] == [2.0, 0.1]


def test_a_pause_beyond_the_deadline_is_not_begun():
    world = World(timeout=10)
    assert world.pause_after(full(10)) is None
    world = World(timeout=10)
    world.now += 9.99
    assert world.pause_after(LOST) is None


@pytest.mark.parametrize("error", [LOST, SILENT, GARBAGE])
def test_what_must_not_be_done_twice_is_not_repeated_when_its_fate_is_unknown(error):
    assert World(repeatable=False).pause_after(error) is None
    assert World(repeatable=True).pause_after(error) is not None


@pytest.mark.parametrize("error", [full(0), errors.ShuttingDown("x")])
def test_what_was_not_done_is_repeated_whatever_it_is(error):
    assert World(repeatable=False).pause_after(error) is not None


FINAL = [errors.Timeout("x"), errors.ConnectionFailed("x"), errors.Quarantined("x"), errors.InvalidArgument("x"), errors.WorkerDied("x")]


@pytest.mark.parametrize("error", FINAL)
def test_what_would_only_fail_again_is_final(error):
    assert World().pause_after(error) is None


def test_time_is_shared_among_the_attempts():
    world = World(timeout=8, retries=3, shared=True)
    ends = []
    while True:
        ends.append(world.attempts.end())
        world.now = ends[-1]
        if world.pause_after(SILENT) is None:
            break
    assert ends == [102.0, 104.0, 106.0, 108.0]


def test_one_attempt_may_take_everything():
    assert World(timeout=8, shared=False).attempts.end() == 108.0
    assert World(timeout=8, shared=True, repeatable=False).attempts.end() == 108.0
    assert World(timeout=8, shared=True, retries=0).attempts.end() == 108.0
