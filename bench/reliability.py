"""The proofs of reliability in their long form, and the table that docs/reliability.md shows.

    python bench/reliability.py [--only crash|power|damage|model|churn|fuzz] [--share 1.0] [--out FILE.json]

Each proof is a loop of tests/reliability, whose tests run it in short form. `--share 0.1` runs a tenth. Ends with 1
when there is any violation; violations are printed, and the loops are seeded, so that they come back.
"""

import argparse
import json
import logging
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from memory3.bench.machine import machine
from memory3.cluster.embedded import Embedded
from memory3.cluster.server import Server
from memory3.tests.reliability.churn import churn
from memory3.tests.reliability.crash import crash_loop
from memory3.tests.reliability.damage import damage_loop
from memory3.tests.reliability.histories import histories
from memory3.tests.reliability.model import state_machines
from memory3.tests.reliability.outcome import Outcome
from memory3.tests.reliability.power import power_failures
from memory3.tests.reliability.requests import fuzz_requests

KILLS = 500
FAILURES = 1_000
SPARSE_FAILURES, EVERY = 300, 10
"""And so many at every tenth act only, to come further."""
INJECTIONS = 2_000
SEQUENCES = 600
OPERATIONS = 100_000
DOCUMENTS, ROUNDS, DIMENSION = 11_000, 10, 384
"""Of two memories on the average, so that the index is quantized."""
INPUTS = 1_000_000
MESSAGES = 20_000

Proof = Callable[[Path, float], Iterator[Outcome]]


def crash(folder: Path, share: float) -> Iterator[Outcome]:
    # Fewer kills may miss a point by chance.
    yield crash_loop(folder / "crash", round(KILLS * share), every_point=share >= 1)


def power(folder: Path, share: float) -> Iterator[Outcome]:
    yield power_failures(round(FAILURES * share))
    yield power_failures(round(SPARSE_FAILURES * share), EVERY, seed=1)


def damage(folder: Path, share: float) -> Iterator[Outcome]:
    yield damage_loop(round(INJECTIONS * share))


def model(folder: Path, share: float) -> Iterator[Outcome]:
    yield state_machines(round(SEQUENCES * share))
    yield histories(folder / "histories", round(OPERATIONS * share))


def churned(folder: Path, share: float) -> Iterator[Outcome]:
    yield churn(folder / "churn", round(DOCUMENTS * share), ROUNDS, DIMENSION)


def fuzz(folder: Path, share: float) -> Iterator[Outcome]:
    # Here, because it brings PyTorch along: the processes of the other proofs begin with all that is imported above.
    from memory3.tests.reliability.decoders import fuzz_decoders

    yield fuzz_decoders(round(INPUTS * share))
    with Embedded(folder / "fuzz") as memory:
        memory.load_models()
        with Server(memory) as server:
            yield fuzz_requests(server, round(MESSAGES * share))


PROOFS: dict[str, Proof] = {
    "crash": crash,
    "power": power,
    "damage": damage,
    "model": model,
    "churn": churned,
    "fuzz": fuzz,
}


def row(outcome: Outcome) -> str:
    """One line of the table."""
    counts = ", ".join(f"{count:,} {name}" for name, count in outcome.counts.most_common() if count)
    return f"| {outcome.proof} | {outcome.what} | {counts} | {len(outcome.violations)} | {outcome.seconds:,.0f} s |"


def places_table(outcome: Outcome) -> Iterator[str]:
    """The lines of a table of what came of what, with the rarest and gravest not lost."""
    if not outcome.places:
        return
    by_place, results = by_places(outcome), sorted({result for _, result in outcome.places})
    yield f"| {outcome.proof} | all | {' | '.join(results)} |"
    yield "|---" * (len(results) + 2) + "|"
    for place, counts in by_place.items():
        yield f"| {place} | {sum(counts.values()):,} | {' | '.join(f'{counts.get(one, 0):,}' for one in results)} |"
    yield ""


def by_places(outcome: Outcome) -> dict[str, dict[str, int]]:
    """Counts of the results of each place."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for (place, result), count in sorted(outcome.places.items()):
        found[place][result] = count
    return dict(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PROOFS), action="append", help="this proof only; may be repeated")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the long form")
    parser.add_argument("--out", type=Path, help="a JSON file for all results")
    arguments = parser.parse_args()
    # The store logs each damage that it is given, many thousands here.
    logging.disable(logging.CRITICAL)
    # Now, since a long run may outlive the checkout's commit.
    where = machine()
    print(f"{'; '.join(where.values())}\n", flush=True)
    print("| proof | what was done | how often | violations | time |\n|---|---|---|---|---|", flush=True)
    outcomes = []
    for name in arguments.only or PROOFS:
        with tempfile.TemporaryDirectory() as folder:
            for outcome in PROOFS[name](Path(folder), arguments.share):
                outcomes.append(outcome)
                print(row(outcome), flush=True)
    print()
    for outcome in outcomes:
        for line in places_table(outcome):
            print(line)
        for name, figure in outcome.figures.items():
            print(f"{outcome.proof}: {name}: {figure}")
        for violation in outcome.violations:
            print(f"{outcome.proof}: VIOLATION: {violation}")
    if arguments.out:
        arguments.out.write_text(json.dumps({"machine": where, "proofs": [_plain(one) for one in outcomes]}, indent=1))
    return any(outcome.violations for outcome in outcomes)


def _plain(outcome: Outcome) -> dict[str, object]:
    return asdict(outcome) | {"counts": dict(outcome.counts), "places": by_places(outcome)}


if __name__ == "__main__":
    sys.exit(main())
