"""A GPU's step time, emulated.

vLLM loads this in each of its processes, through the entry point
vllm.general_plugins. It works with vLLM 0.12 to 0.32.
"""

import ctypes
import json
import os
import signal
import time

PHYSICS = "KEDA_ENGINE_PHYSICS"  # the environment variable with the JSON's path

# Between two steps vLLM's scheduler takes 1 to 2 ms of the CPU. A GPU's measured step
# time has them in it. A step that begins this soon after the last one is its successor;
# after a longer gap the engine was idle.
SUCCESSION_SECONDS = 0.005

# A sleep ends 0.1 to 0.5 ms late, which the next step makes up for. More is a busy
# machine, which nothing makes up for.
OVERSLEPT_SECONDS = 0.002

PR_SET_PDEATHSIG = 1


class StepTime:
    """How long a step takes: α + β × prompt tokens + γ × sequences + δ × context tokens."""

    def __init__(self, physics: dict):
        self.alpha = physics["alphaSeconds"]
        self.beta = physics.get("betaSecondsPerPromptToken", 0)
        self.gamma = physics.get("gammaSecondsPerSequence", 0)
        self.delta = physics.get("deltaSecondsPerContextToken", 0)
        self.knee = physics.get("kneeSequences", 0)
        self.beyond = physics.get("gammaSecondsBeyondKnee", 0)

    def seconds(self, prompt_tokens: int, sequences: int, context_tokens: int) -> float:
        over = max(sequences - self.knee, 0) if self.knee else 0
        return (
            self.alpha
            + self.beta * prompt_tokens
            + self.gamma * (sequences - over)
            + self.beyond * over
            + self.delta * context_tokens
        )

    def of(self, scheduled) -> float:
        """The time of a vLLM SchedulerOutput; 0 if nothing is scheduled."""
        tokens = scheduled.num_scheduled_tokens
        if not tokens:
            return 0.0
        drafts = scheduled.scheduled_spec_decode_tokens
        prompt = 0
        for request, n in tokens.items():
            # A decoding request has one token, and its drafts. More is a piece of a
            # prompt, or of what a preempted request computes again.
            if n > 1 + len(drafts.get(request, ())):
                prompt += n
        context = 0
        if self.delta:
            # What the requests have in the KV cache before the step.
            context = sum(r.num_computed_tokens for r in scheduled.scheduled_new_reqs)
            context += sum(scheduled.scheduled_cached_reqs.num_computed_tokens)
        return self.seconds(prompt, len(tokens), context)


class Pace:
    """Makes each step of a worker last as long as on the GPU."""

    def __init__(self, step_time: StepTime, now=time.monotonic, sleep=time.sleep):
        self.step_time, self.now, self.sleep = step_time, now, sleep
        self.ended = float("-inf")

    def wrap(self, execute_model):
        def paced(worker, scheduled, *args, **kwargs):
            begin = self.now()
            if begin - self.ended < SUCCESSION_SECONDS:
                begin = self.ended
            out = execute_model(worker, scheduled, *args, **kwargs)
            seconds = self.step_time.of(scheduled)
            if seconds > 0:
                due = begin + seconds
                self.sleep(max(due - self.now(), 0))
                now = self.now()
                self.ended = due if now - due < OVERSLEPT_SECONDS else now
            return out

        return paced


def end_with_parent() -> None:
    """A kill -9 of an engine's first process ends the others too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def register() -> None:
    """vLLM calls this once or more in each process, before a model is loaded."""
    path = os.environ.get(PHYSICS)
    if not path:
        return
    end_with_parent()
    from vllm.v1.worker.cpu_worker import CPUWorker

    if getattr(CPUWorker.execute_model, "is_paced", False):
        return
    with open(path) as f:
        pace = Pace(StepTime(json.load(f)))
    paced = pace.wrap(CPUWorker.execute_model)
    paced.is_paced = True
    CPUWorker.execute_model = paced
