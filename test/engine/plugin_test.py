"""Tests of plugin/, run by TestThePlugin with the Python of an installed vLLM."""

import asyncio
import os
from types import SimpleNamespace

os.environ["KEDA_ENGINE_SEATS"] = "2"

from keda_engine import guard, steps

PHYSICS = {
    "alphaSeconds": 0.030, "betaSecondsPerPromptToken": 0.001, "gammaSecondsPerSequence": 0.010,
    "deltaSecondsPerContextToken": 0.0001, "kneeSequences": 2, "gammaSecondsBeyondKnee": 0.100,
}


def scheduled(tokens, drafts=None, computed=0):
    return SimpleNamespace(
        num_scheduled_tokens=tokens, scheduled_spec_decode_tokens=drafts or {},
        scheduled_new_reqs=[], scheduled_cached_reqs=SimpleNamespace(num_computed_tokens=[computed]))


def near(got, want):
    assert abs(got - want) < 1e-9, f"got {got}, want {want}"


def test_a_step_takes_what_the_physics_say():
    of = steps.StepTime(PHYSICS).of
    near(of(scheduled({})), 0)
    near(of(scheduled({"a": 1})), 0.030 + 0.010)
    near(of(scheduled({"a": 1, "b": 1, "c": 1})), 0.030 + 2 * 0.010 + 0.100)
    near(of(scheduled({"a": 1, "b": 500})), 0.030 + 2 * 0.010 + 500 * 0.001)
    near(of(scheduled({"a": 1}, computed=400)), 0.030 + 0.010 + 400 * 0.0001)
    # Drafts are no prompt.
    near(of(scheduled({"a": 4}, drafts={"a": [7, 8, 9]})), 0.030 + 0.010)


def test_steps_that_follow_each_other_have_the_scheduler_in_them():
    clock = [100.0]

    def sleep(seconds):
        clock[0] += seconds

    def execute(worker, scheduler_output):
        clock[0] += 0.004  # what the CPU computes
        return "tokens"

    pace = steps.Pace(steps.StepTime({"alphaSeconds": 0.030}), now=lambda: clock[0], sleep=sleep)
    step = pace.wrap(execute)
    assert step(None, scheduled({"a": 1})) == "tokens"
    near(clock[0], 100.030)
    clock[0] += 0.002  # the scheduler
    step(None, scheduled({"a": 1}))
    near(clock[0], 100.060)
    clock[0] += 10  # nothing to do
    step(None, scheduled({"a": 1}))
    near(clock[0], 110.090)
    step(None, scheduled({}))  # an empty one takes what it takes
    near(clock[0], 110.094)


def test_a_sleep_that_ends_late_is_made_up_for():
    clock, late = [100.0], [0.0004]

    def sleep(seconds):
        clock[0] += seconds + late[0]

    pace = steps.Pace(steps.StepTime({"alphaSeconds": 0.030}), now=lambda: clock[0], sleep=sleep)
    step = pace.wrap(lambda worker, scheduler_output: None)
    for _ in range(10):
        step(None, scheduled({"a": 1}))
    near(clock[0], 100.3004)
    late[0] = 0.010  # a busy machine
    step(None, scheduled({"a": 1}))
    step(None, scheduled({"a": 1}))
    near(clock[0], 100.380)


def test_the_guard_refuses_while_more_wait_than_run():
    async def story():
        door, sent = asyncio.Event(), []

        async def app(scope, receive, send):
            await door.wait()

        async def send(message):
            sent.append(message)

        g = guard.Guard(app)
        ask = lambda path: asyncio.ensure_future(g({"type": "http", "path": path}, None, send))
        # Two run, three wait: when the third came, two waited.
        inside = [ask("/v1/completions") for _ in range(5)]
        await asyncio.sleep(0)
        assert not sent, sent
        await ask("/v1/chat/completions")
        assert [m.get("status") for m in sent] == [429, None], sent
        assert guard.rejected._value.get() == 1
        health = ask("/health")  # is for everybody
        await asyncio.sleep(0)
        assert not health.done() and len(sent) == 2
        door.set()
        await asyncio.gather(health, *inside)
        await ask("/v1/completions")
        assert len(sent) == 2, "refused though nothing is in it"

    asyncio.run(story())


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print("ok", name)
