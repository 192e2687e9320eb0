"""Which request is worked on in which step: static and continuous batches, counted in blocks.

Part of `nnlib.language.inference`, with its letters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from nnlib import checks
from nnlib.language._inference_costs import Work, checked_works


@dataclass(frozen=True)
class Request:
    """A prompt that arrives and the answer that it will get, in tokens.

    Args:
        arrival: seconds, ≥ 0.
        prompt: tokens that are there, ≥ 1.
        output: tokens that will be written, ≥ 1; a scheduler does not look at it beforehand,
            unless its rooms are "known".

    Example:
        >>> Request(arrival=0.5, prompt=100, output=20).output
        20
    """

    arrival: float
    prompt: int
    output: int

    def __post_init__(self):
        arrival = checks.number("arrival", self.arrival, least=0)
        object.__setattr__(self, "arrival", arrival)
        for name in ("prompt", "output"):
            object.__setattr__(self, name, checks.count(name, getattr(self, name)))


class Step(NamedTuple):
    """One step of a server, as it was.

    Args:
        start: seconds.
        end: seconds.
        works: what each request did.
        held: blocks that are taken, each by one request.
        stored: tokens whose keys and values stand in them.
    """

    start: float
    end: float
    works: list[Work]
    held: int
    stored: int


class _State:
    """Where a request stands."""

    def __init__(self, number: int, request: Request):
        self.number, self.request = number, request
        self.read = self.written = self.blocks = 0

    @property
    def known(self) -> int:
        return self.request.prompt + self.written

    @property
    def done(self) -> bool:
        return self.written == self.request.output


class Scheduler:
    """Decides before each step which requests take part in it, by the blocks that are free.

    A *static* batch begins together, is padded to its longest prompt, and ends with its longest
    answer. A *continuous* one loses a request as soon as it has its answer and takes in the next
    that fits. First come, first served; if blocks run out, the request that came last gives its
    own back, and is read anew when there is room.

    Args:
        blocks: blocks of the cache, ≥ 1.
        block_size: tokens of a block, ≥ 1.
        batching: "continuous" or "static".
        reserve: tokens for which each request gets room when it begins; "known": as many as it
            will need, which only an oracle knows; None: blocks one by one, as they fill. A static
            batch needs its room from the beginning.
        max_running: requests of a step at most, ≥ 1.
        token_budget: tokens of a step at most, ≥ 1, so that long prompts are read in chunks; None
            reads each prompt at once.

    Raises:
        ValueError: from `run`, before any step: a request that could never fit, named.

    Example:
        >>> requests = [Request(0, 4, 3), Request(0, 4, 12), Request(0, 4, 3)]
        >>> for batching in ("static", "continuous"):
        ...     scheduler = Scheduler(8, 4, batching=batching, reserve=16, max_running=2)
        ...     served = scheduler.run(requests, step=lambda works: 1.0)
        ...     print(batching, len(served.steps), served.finished)
        static 15 [3.0, 12.0, 15.0]
        continuous 12 [3.0, 12.0, 6.0]

    Source: Yu et al. 2022 (Orca); Kwon et al. 2023 (vLLM); Agrawal et al. 2024 (Sarathi-Serve).
    """

    def __init__(
        self,
        blocks: int,
        block_size: int = 16,
        *,
        batching: str = "continuous",
        reserve: int | str | None = None,
        max_running: int = 256,
        token_budget: int | None = None,
    ):
        self.blocks = checks.count("blocks", blocks)
        self.block_size = checks.count("block_size", block_size)
        self.batching = checks.one_of("batching", batching, ("continuous", "static"))
        self.reserve: int | str | None = reserve
        if isinstance(reserve, str):
            self.reserve = checks.one_of("reserve", reserve, ("known",))
        elif reserve is not None:
            self.reserve = checks.count("reserve", reserve)
        self.max_running = checks.count("max_running", max_running)
        self.token_budget = math.inf
        if token_budget is not None:
            self.token_budget = checks.count("token_budget", token_budget)
        if batching == "static" and (reserve is None or token_budget is not None):
            raise ValueError(
                "batching='static' needs reserve= tokens or 'known', and no token_budget, got "
                f"reserve={reserve!r}, token_budget={token_budget!r}"
            )
        self._clear()

    def _clear(self) -> None:
        self.waiting: list[_State] = []
        self.running: list[_State] = []
        self.free = self.blocks
        self.preempted = self.stored = 0
        self._padded = 0  # tokens of each row of a static batch

    # ------------------------------------------------------------------------- one step's decision
    def plan(self) -> list[Work]:
        """Return what to do next; blocks for it are taken, and others given back, already."""
        if self.batching == "static":
            return self._static()
        works, left = [], self.token_budget
        before = self.preempted
        for state in sorted(self.running, key=lambda s: s.known - s.read > 1):
            new = int(min(state.known - state.read, left))
            if new and state.blocks and self._grow(state, new):
                works.append(_work(state, new))
                left -= new
        if self.preempted > before:  # some had a place in this step, and have lost it
            still = {state.number for state in self.running}
            works = [work for work in works if work.request in still]
        while self.preempted == before and left and self.waiting:
            state = self.waiting[0]
            need = self._room(state)
            if len(self.running) == self.max_running or need > self.free:
                break
            self._admit(state, need)
            new = int(min(state.known, left))
            works.append(_work(state, new))
            left -= new
        return works

    def _static(self) -> list[Work]:
        """Begin a batch if none runs; all its rows, finished ones too, are computed as one."""
        if not self.running:
            while self.waiting and len(self.running) < self.max_running:
                need = self._room(self.waiting[0])
                if need > self.free:
                    break
                self._admit(self.waiting[0], need)
            longest = max((state.known for state in self.running), default=0)
            self._padded = longest
            return [Work(s.number, longest, 0) for s in self.running]
        row = self._padded
        self._padded += 1
        return [Work(s.number, 1, row, not s.done) for s in self.running]

    def _room(self, state: _State) -> int:
        """Return the blocks that a request needs in order to begin."""
        tokens = state.known
        if self.reserve == "known":
            tokens = state.request.prompt + state.request.output
        elif isinstance(self.reserve, int):
            tokens = self.reserve
        return -(-tokens // self.block_size)

    def _admit(self, state: _State, need: int) -> None:
        self.waiting.remove(state)
        self.running.append(state)
        state.blocks = need
        self.free -= need

    def _grow(self, state: _State, new: int) -> bool:
        """Take the blocks for so many tokens more; whoever came last gives way, maybe itself."""
        need = -(-(state.read + new) // self.block_size) - state.blocks
        while need > self.free:
            last = self.running[-1]
            self._release(last)
            last.read = 0
            self.waiting.insert(0, last)
            self.preempted += 1
            if last is state:
                return False
        if need > 0:
            state.blocks += need
            self.free -= need
        return True

    def _release(self, state: _State) -> None:
        self.running.remove(state)
        self.free += state.blocks
        state.blocks = 0

    def commit(self, works: Sequence[Work]) -> list[int]:
        """Note that these were done; return the requests that have got a token, in their order.

        Args:
            works: as `plan` returned them.
        """
        checked_works(works)
        states = {state.number: state for state in self.running}
        answered, static = [], self.batching == "static"
        for work in works:
            state = states.get(work.request)
            if state is None:
                raise ValueError(f"request {work.request} of works is not running")
            if static and state.done:  # padding, until the batch is over
                continue
            state.read = state.known if static else state.read + work.new
            if work.answers:
                state.written += 1
                answered.append(state.number)
        self.stored = sum(state.read for state in self.running)
        over = [state for state in self.running if state.done]
        if not static or len(over) == len(self.running):
            for state in over:
                self._release(state)
        return answered

    # ------------------------------------------------------------------------------- a whole trace
    def run(
        self, requests: Sequence[Request], step: Callable[[list[Work]], float]
    ) -> "Served":
        """Serve a trace from beginning to end.

        Args:
            requests: in any order; their numbers are their places in this list.
            step: does one step, or pretends to, and returns its seconds, > 0.
        """
        self._check(requests, step)
        self._clear()
        coming = sorted(enumerate(requests), key=lambda pair: pair[1].arrival)
        times: list[list[float]] = [[] for _ in requests]
        steps, now = [], 0.0
        while coming or self.waiting or self.running:
            while coming and coming[0][1].arrival <= now:
                self.waiting.append(_State(*coming.pop(0)))
            works = self.plan()
            if not works:
                now = coming[0][1].arrival
                continue
            start, now = now, now + checks.number("step(works)", step(works), above=0)
            held = self.blocks - self.free
            for number in self.commit(works):
                times[number].append(now)
            steps.append(Step(start, now, works, held, self.stored))
        return Served(list(requests), times, steps, self.preempted)

    def _check(self, requests: Sequence[Request], step: Callable) -> None:
        if not callable(step):
            raise TypeError(f"step={step!r} must be callable")
        if not isinstance(requests, list | tuple) or not requests:
            raise TypeError(
                f"requests must be a list of one Request or more, got {requests!r}"
            )
        for at, request in enumerate(requests):
            if not isinstance(request, Request):
                raise TypeError(
                    f"requests[{at}] must be a Request, got {type(request).__name__}"
                )
            tokens = request.prompt + request.output
            if isinstance(self.reserve, int) and tokens > self.reserve:
                raise ValueError(
                    f"requests[{at}] needs {tokens} tokens, reserve={self.reserve}"
                )
            room = self.reserve if isinstance(self.reserve, int) else tokens
            if -(-room // self.block_size) > self.blocks:
                raise ValueError(
                    f"requests[{at}] needs {-(-room // self.block_size)} blocks of "
                    f"{self.block_size} tokens, blocks={self.blocks}"
                )


def _work(state: _State, new: int) -> Work:
    return Work(state.number, new, state.read, state.read + new == state.known)


@dataclass(frozen=True)
class Served:
    """What became of a trace: when each request got each token.

    Args:
        requests: as they came.
        times: for each of them, the second of each token.
        steps: what the server did.
        preempted: how often a request had to give its blocks back.

    Example:
        >>> served = Served([Request(1.0, 5, 3)], [[2.0, 2.5, 3.5]], [], 0)
        >>> served.first_token, served.per_token, served.latency
        ([1.0], [0.75], [2.5])
    """

    requests: list[Request]
    times: list[list[float]]
    steps: list[Step]
    preempted: int

    @property
    def finished(self) -> list[float]:
        """The second at which each request has its answer."""
        return [times[-1] for times in self.times]

    @property
    def first_token(self) -> list[float]:
        """Seconds from arrival to the first token (TTFT): equation `inference-ttft`."""
        return [
            t[0] - r.arrival for r, t in zip(self.requests, self.times, strict=True)
        ]

    @property
    def per_token(self) -> list[float]:
        """Mean seconds of each further token (TPOT), where there are two: `inference-tpot`."""
        return [(t[-1] - t[0]) / (len(t) - 1) for t in self.times if len(t) > 1]

    @property
    def gaps(self) -> list[float]:
        """All seconds between a token and the next of the same answer."""
        return [b - a for t in self.times for a, b in pairwise(t)]

    @property
    def latency(self) -> list[float]:
        """Seconds from arrival to the last token."""
        return [
            t[-1] - r.arrival for r, t in zip(self.requests, self.times, strict=True)
        ]

    @property
    def seconds(self) -> float:
        """Seconds from the first arrival to the last token."""
        return max(self.finished) - min(r.arrival for r in self.requests)

    @property
    def throughput(self) -> float:
        """Tokens written a second."""
        return sum(map(len, self.times)) / self.seconds

    def goodput(self, first_token: float, per_token: float) -> float:
        """Return the share of requests within both limits: equation `inference-goodput`.

        Args:
            first_token: seconds to the first token at most, > 0.
            per_token: mean seconds of each further token at most, > 0.
        """
        first = checks.number("first_token", first_token, above=0)
        further = checks.number("per_token", per_token, above=0)
        good = 0
        for waited, times in zip(self.first_token, self.times, strict=True):
            pace = (times[-1] - times[0]) / max(1, len(times) - 1)
            good += waited <= first and pace <= further
        return good / len(self.times)
