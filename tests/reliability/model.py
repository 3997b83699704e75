"""Proof: any sequence of calls answers as a dictionary would; the state machine is that of the store's own tests."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from memory3.tests.store.test_collection import CollectionMachine, TrimmingMachine

from .outcome import Outcome

STEPS = 40


def state_machines(examples: int) -> Outcome:
    """Run `examples` sequences of up to `STEPS` calls, half of them with a log that forgets almost at once."""
    outcome = Outcome("model", "sequences of calls, restarts and lost caches included, against a dictionary")
    for machine in (CollectionMachine, TrimmingMachine):
        _run(machine, examples // 2, outcome)
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
