"""What a proof did and what it found."""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """One proof: what was done, how often by name, and each violation in words; none means that it holds.

    `places` counts what came of each thing done, by both; `figures` are measured values, ready to print; `seconds` is
    the wall time from its making to `done`.
    """

    proof: str
    what: str
    counts: Counter[str] = field(default_factory=Counter)
    places: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter, repr=False)

    def done(self) -> "Outcome":
        self.seconds = time.perf_counter() - self._started
        return self
