"""Short form of the damage loop; the long one is `python bench/reliability.py --only damage`."""

from memory3.tests.reliability.damage import damage_loop


def test_damage_is_never_served() -> None:
    outcome = damage_loop(injections=60)
    assert outcome.violations == []
    ended = sum(count for name, count in outcome.counts.items() if name.startswith("process"))
    assert outcome.counts["reported"] + outcome.counts["logged"] > 36 and ended <= 4
