"""Makers of names and values for training worlds: open classes are invented, and split so that tests never repeat.

Every invented word and every number belongs, by a hash of its letters or digits, either to training or to testing;
a maker asked for one split never gives a word or number of the other (closed classes, such as colours, are shared:
they are vocabulary, not facts).
"""

import hashlib
from collections.abc import Callable
from random import Random
from typing import Literal, TypeAlias

from . import lists

Split: TypeAlias = Literal["train", "test"]

TEST_SHARE = 8
"""One word or number in this many belongs to the test split."""

# Plain sounds are repeated, so that most words are as easy to say as real names and some are as odd as real ones.
_ONSETS = (
    "b c d f g h j k l m n p r s t v w b d f g h k l m n p r s t v b d h k l m n r s t "
    "br bl ch cl cr dr fl fr gl gr kr pl pr qu sc sh sk sl sm sn sp st str th tr wr y z zh kh vl tz"
).split()
_NUCLEI = "a e i o u a e i o u a e i o ai au ea ee ei ia io oa oo ou y ae".split()
_CODAS = [""] * 24 + "b ck d f g k l ld ll lm lt m n nd ng nk nn p r rd rk rl rm rn rs s ss st t th x z".split()
_FIRST_ENDINGS = "a e i o an en in on ia io el al is us ette ina ine ric wyn ra la na do to mir ko".split()
_LAST_ENDINGS = (
    "son sen er ing man ton ley well ford wood field ski ska ov ova ez es ini etti ard eau ic vic oglu ian yan ana "
    "ura moto shi gar wal kov berg stein feld strom quist dottir wick worth"
).split()
_PLACE_ENDINGS = (
    "ton ham ford bury by wick port mouth field dale bridge haven burg stad grad ville bourg minster more stead "
    "holm gate combe worth land ia ania ora esh abad pur grove cliff"
).split()


def in_split(text: str, split: Split) -> bool:
    """Whether a word or number belongs to `split`."""
    digest = hashlib.blake2b(text.lower().encode(), digest_size=4).digest()
    is_test = int.from_bytes(digest, "little") % TEST_SHARE == 0
    return is_test == (split == "test")


class Names:
    """Makes values of every class named in the phrase tables; `make("person")` calls the maker `person`."""

    def __init__(self, random: Random, split: Split) -> None:
        self._random = random
        self._split = split

    def make(self, maker: str) -> str:
        method: Callable[[], str] | None = getattr(self, maker, None)
        if method is not None:
            return method()
        return self._random.choice(lists.CLOSED[maker])

    def _word(self, syllables: tuple[int, ...], endings: list[str] | None = None) -> str:
        """An invented word of this split, capitalised."""
        pick = self._random.choice
        while True:
            word = "".join(pick(_ONSETS) + pick(_NUCLEI) + pick(_CODAS) for _ in range(pick(syllables)))
            if endings is not None and self._random.random() < 0.6:
                word += pick(endings)
            if 3 <= len(word) <= 13 and in_split(word, self._split):
                return word.capitalize()

    def _number(self, low: int, high: int) -> int:
        """A number of this split; sizes are spread over the decades, as in real texts."""
        while True:
            digits = self._random.randint(len(str(low)), len(str(high)))
            number = self._random.randint(max(low, 10 ** (digits - 1)), min(high, 10**digits - 1))
            if in_split(str(number), self._split):
                return number

    def _common(self, words: tuple[str, ...]) -> str:
        """A real word of this split, for names made of real words."""
        while True:
            word = self._random.choice(words)
            if in_split(word, self._split):
                return word

    def person(self) -> str:
        draw = self._random.random()
        first = self.first_name()
        if draw < 0.08:
            return f"{first} {self._random.choice('ABCDEFGHJKLMNPRSTW')}. {self.surname()}"
        if draw < 0.13:
            return f"{first} {self._random.choice(('de', 'van', 'von', 'al', 'da', 'del'))} {self.surname()}"
        if draw < 0.17:
            return f"{first} {self.surname()}-{self.surname()}"
        return f"{first} {self.surname()}"

    def first_name(self) -> str:
        if self._random.random() < 0.5:
            return self._common(lists.FIRST_NAMES)
        return self._word((1, 1, 2), _FIRST_ENDINGS)

    def surname(self) -> str:
        if self._random.random() < 0.25:
            return self._common(lists.NOUNS).capitalize()
        return self._word((1, 1, 2, 2), _LAST_ENDINGS)

    def place(self) -> str:
        draw = self._random.random()
        if draw < 0.1:
            return f"{self._random.choice(lists.PLACE_WORDS)} {self._word((1, 2), _PLACE_ENDINGS)}"
        if draw < 0.2:
            return f"{self._common(lists.NOUNS).capitalize()} {self._random.choice(lists.PLACE_SUFFIXES)}"
        return self._word((1, 2, 2), _PLACE_ENDINGS)

    def _lead(self) -> str:
        """The distinguishing part of a firm's, building's or ship's name."""
        draw = self._random.random()
        if draw < 0.35:
            return self._word((1, 2, 2, 3))
        if draw < 0.6:
            return f"{self._random.choice(lists.ADJECTIVES).capitalize()} {self._common(lists.NOUNS).capitalize()}"
        if draw < 0.8:
            return self.surname()
        return self.place()

    def firm(self) -> str:
        draw = self._random.random()
        if draw < 0.15:
            return f"{self.surname()} & {self.surname()}"
        if draw < 0.25:
            return self._word((2, 3))
        return f"{self._lead()} {self._random.choice(lists.FIRM_WORDS)}"

    def product(self) -> str:
        draw = self._random.random()
        if draw < 0.3:
            return f"{self._word((1, 2, 2))} {self._number(2, 9999)}"
        if draw < 0.6:
            return f"{self._word((1, 2, 2))} {self._common(lists.NOUNS).capitalize()}"
        return self._word((2, 2, 3))

    def event(self) -> str:
        lead = self._lead() if self._random.random() < 0.7 else self._random.choice(lists.ADJECTIVES).capitalize()
        return f"{lead} {self._random.choice(lists.EVENT_WORDS)}"

    def building(self) -> str:
        return f"{self._lead()} {self._random.choice(lists.BUILDING_WORDS)}"

    def ship(self) -> str:
        return self._lead() if self._random.random() < 0.6 else f"{self.first_name()} {self.surname()}"

    def species(self) -> str:
        lead = self._word((1, 2)) if self._random.random() < 0.6 else self._random.choice(lists.ADJECTIVES).capitalize()
        return f"{lead} {self._random.choice(lists.CLOSED['animal'] + lists.CLOSED['plant'])}"

    def book(self) -> str:
        noun, other = self._common(lists.NOUNS).capitalize(), self._common(lists.NOUNS).capitalize()
        form = self._random.choice(
            ("The {a} {n}", "{n} and {o}", "The {n} of {p}", "A {a} {n}", "{p}", "The {n}'s {o}")
        )
        adjective = self._random.choice(lists.ADJECTIVES).capitalize()
        return form.format(a=adjective, n=noun, o=other, p=self._word((1, 2, 2)))

    def team(self) -> str:
        return f"{self.place()} {self._random.choice(lists.TEAM_WORDS)}"

    def institute(self) -> str:
        lead = self.place() if self._random.random() < 0.5 else self.surname()
        return f"{lead} {self._random.choice(lists.INSTITUTE_WORDS)}"

    def award(self) -> str:
        return f"{self._lead()} {self._random.choice(('Prize', 'Medal', 'Award', 'Cup', 'Trophy', 'Fellowship'))}"

    def nickname(self) -> str:
        return f"the {self._random.choice(lists.ADJECTIVES)} {self._common(lists.NOUNS)}"

    def dish(self) -> str:
        return f"{self._word((1, 2)).lower()} {self._random.choice(('stew', 'pie', 'bread', 'soup', 'cake', 'curry'))}"

    def year(self) -> str:
        while True:
            year = self._random.choice((self._random.randint(1400, 2050), self._random.randint(1850, 2025)))
            if in_split(str(year), self._split):
                return str(year)

    def date(self) -> str:
        day, month, year = self._random.randint(1, 28), self.month(), self.year()
        form = self._random.choice(("{d} {m} {y}", "{m} {d}, {y}", "{d} {m}", "{m} {y}"))
        return form.format(d=day, m=month, y=year)

    def month(self) -> str:
        return self._random.choice(lists.MONTHS)

    def time(self) -> str:
        hour, minute = self._random.randint(1, 12), self._random.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55))
        return f"{hour}:{minute:02d} {self._random.choice(('am', 'pm'))}"

    def age(self) -> str:
        return str(self._number(5, 99))

    def count(self) -> str:
        number = self._number(3, 9_999_999)
        return f"{number:,}" if self._random.random() < 0.6 else str(number)

    def price(self) -> str:
        number = self._number(2, 99_999)
        form = self._random.choice(("${n}", "${n}.{c:02d}", "{n} euros", "{n} dollars", "{n} crowns", "£{n}", "€{n}"))
        return form.format(n=number, c=self._random.randint(0, 99))

    def _measure(self, low: int, high: int, units: tuple[str, ...]) -> str:
        number = self._number(low, high)
        decimals = f".{self._random.randint(1, 9)}" if self._random.random() < 0.25 else ""
        return f"{number}{decimals} {self._random.choice(units)}"

    def length(self) -> str:
        return self._measure(2, 9_999, ("metres", "kilometres", "feet", "miles", "centimetres", "m", "km"))

    def weight(self) -> str:
        return self._measure(2, 9_999, ("kilograms", "tonnes", "grams", "pounds", "kg"))

    def duration(self) -> str:
        return self._measure(2, 400, ("minutes", "hours", "days", "weeks", "months", "years"))

    def percent(self) -> str:
        return f"{self._number(2, 99)}{self._random.choice(('%', ' percent', ' per cent'))}"

    def temperature(self) -> str:
        return self._measure(2, 990, ("degrees", "degrees Celsius", "°C"))

    def speed(self) -> str:
        return self._measure(3, 900, ("kilometres per hour", "knots", "km/h", "miles per hour"))

    def area(self) -> str:
        return self._measure(3, 99_999, ("hectares", "square kilometres", "acres", "square metres"))

    def code(self) -> str:
        letters = "".join(self._random.choice("ABCDEFGHJKLMNPQRSTVWXZ") for _ in range(self._random.randint(1, 3)))
        return f"{letters}{self._random.choice(('-', ' ', ''))}{self._number(2, 9_999)}"

    def phone(self) -> str:
        return f"{self._number(100, 999)}-{self._number(1000, 9999)}"

    def room(self) -> str:
        return f"{self._random.choice(('Room', 'Hall', 'Gate', 'Office', 'Platform'))} {self._number(2, 999)}"
