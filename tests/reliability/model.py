"""Proof: any sequence of calls answers as a dictionary would; the state machine is that of the store's own tests."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from memory3.tests.store.test_collection import (
    ClusteredMachine,
    CollectionMachine,
    ShardedMachine,
    TrimmingMachine,
)

from .outcome import Outcome

STEPS = 40
MACHINES = (CollectionMachine, TrimmingMachine, ShardedMachine, ClusteredMachine)


def state_machines(examples: int) -> Outcome:
    """Run `examples` sequences of up to `STEPS` calls, as many with each of the machines."""
    outcome = Outcome("model", "sequences of calls, restarts, restores and lost caches included, against a dictionary")
    for machine in MACHINES:
        _run(machine, examples // len(MACHINES), outcome)
    return outcome.done()


def _run(machine: type[RuleBasedStateMachine], examples: int, outcome: Outcome) -> None:
    counted = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    class Counting(machine):  # type: ignore[misc, valid-type]
        def teardown(self) -> None:
            super().teardown()
            outcome.counts["sequences"] += 1

    try:
        run_state_machine_as_test(Counting, settings=counted)
    except Exception as error:
        outcome.violations.append(f"{machine.__name__}: {error!r}")
