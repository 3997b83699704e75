"""Questions made of any text: a name, a number or a phrase is taken out of a sentence and asked for by the rest of it.

Unsupervised question answering by cloze translation (Lewis et al., 2019, section 3): the clause around the answer, a
question word for the answer's kind, and noise, since no rule makes good English of it. What is learnt is to find the
sentence that tells of the same things in other words, and to copy what it says.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from random import Random

from ..prompts import UNKNOWN
from .natural import document_windows
from .worlds import Passage, Question

KIND = "natural.cloze"

_COUNT = (
    "(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fifteen|twenty|thirty|forty|fifty|sixty|"
    "seventy|eighty|ninety|hundred|thousand|million)"
)
_ANSWERS = {
    "year": re.compile(r"(?<![\w.,-])(?:1[0-9]{3}|20[0-2][0-9])(?![\w,-]|\.\d)"),
    "number": re.compile(rf"(?<![\w.,-])(?:[$£€]?\d[\d,.]*\d%?|\d|{_COUNT}(?: {_COUNT})*)(?![\w%-]|[.,]\d)"),
    "name": re.compile(r"(?<=[a-z,] )[A-Z][a-z-]+(?:(?: of| the| de| von| van)*(?: [A-Z][a-z-]+|\.? [A-Z]\.))*(?!\w)"),
    "phrase": re.compile(
        r"(?<=\b[Tt]he )[a-z-]+(?: [a-z-]+){0,2}?"
        r"(?= (?:of|in|on|at|by|to|for|with|from|and|was|were|is|are|that|who)\b|[,.;])"
    ),
}
"""What can be asked for, the first kind that fits; phrases without their article."""
_NO_NAME = re.compile("That|Where|When|What|Which|Who|Why|How|The|This|These|Those|There|Then|And|But|For|His|Her|Its")
_NO_PROSE = re.compile(r"[`{}_<>|=*#\\/@\[\]]|::|--")
"""Signs of code, markup and tables, of which no question is made."""
_CLAUSE_END = re.compile(r"[,;:()]+\s")
_SENTENCE = re.compile(r"[^.!?]+(?:[.!?](?!\s+[\"'(\[A-Z0-9])[^.!?]*)*[.!?]?")
_PLACED = frozenset(("in", "at", "from", "to", "near", "into"))
_WORD = re.compile(r"[a-z]{5,}", re.IGNORECASE)
_WORDS_MAX = 14
_DROPPED = 0.12


@dataclass(frozen=True, slots=True)
class Blank:
    """An answer in its clause: its kind, and the words on either side."""

    answer: str
    kind: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def blanks(window: str) -> list[Blank]:
    """All answers of a text that stand in it once, with a clause around them that says enough to find them."""
    found = []
    for sentence in _SENTENCE.finditer(window):
        text = sentence.group().strip()
        taken: set[int] = set()
        for kind, pattern in _ANSWERS.items():
            for match in pattern.finditer(text):
                answer = match.group()
                if match.start() in taken:
                    continue
                taken.add(match.start())
                if _NO_NAME.fullmatch(answer) or window.count(answer) > 1 or len(answer.split()) > 5:
                    continue
                before, after = _clause(text, match.start(), match.end())
                if len(_WORD.findall(" ".join((*before, *after)))) >= 3:
                    found.append(Blank(answer, kind, before, after))
    return found


def _clause(sentence: str, start: int, end: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words before and after an answer, of its clause, or of the sentence if the clause is short."""
    before, after = sentence[:start], sentence[end:]
    near_before = _CLAUSE_END.split(before)[-1]
    near_after = _CLAUSE_END.split(after)[0]
    if len(_WORD.findall(near_before + near_after)) >= 4:
        before, after = near_before, near_after
    return tuple(before.split()[-_WORDS_MAX:]), tuple(after.rstrip(".!?,;:").split()[:_WORDS_MAX])


class Cloze:
    """Passages of the texts (`*.txt`) in a folder, with questions made of their own sentences."""

    def __init__(self, folder: Path, seed: int, words_max: int = 75) -> None:
        self._random = Random(seed)
        prose = (
            [window for window in windows if not _NO_PROSE.search(window)]
            for windows in document_windows(folder, words_max)
        )
        self._documents = [windows for windows in prose if len(windows) > 1]
        self._places = [(number, at) for number, windows in enumerate(self._documents) for at in range(len(windows))]

    def __len__(self) -> int:
        return len(self._places)

    def passage(self) -> Passage:
        """A passage, questions that it answers, if any can be made, and questions of the text beside it."""
        random = self._random
        number, at = random.choice(self._places)
        windows = self._documents[number]
        text = windows[at]
        found = blanks(text)
        beside = [blank for blank in blanks(windows[at - 1]) if blank.answer not in text]
        asked = random.sample(found, min(3, len(found)))
        missing = random.sample(beside, min(2, len(beside)))
        return Passage(
            text,
            tuple(Question(self._ask(blank), blank.answer, KIND) for blank in asked),
            tuple(Question(self._ask(blank), UNKNOWN, "") for blank in missing),
            KIND,
        )

    def _ask(self, blank: Blank) -> str:
        random = self._random
        before, after = list(blank.before), list(blank.after)
        word = self._question_word(blank.kind, before, after)
        before, after = self._noisy(before), self._noisy(after)
        if before and random.random() < 0.3:
            parts = [*before, word.lower(), *after]
        elif len(before) <= 2:
            parts = [word, *after, *before]
        else:
            auxiliary = random.choice(((), ("did",), ("was",), ("is",), ("does",)))
            parts = [word, *auxiliary, *before, *after]
        question = " ".join(parts)
        return question[0].upper() + question[1:] + "?"

    def _question_word(self, kind: str, before: list[str], after: list[str]) -> str:
        """A question word that fits; words that it stands for are taken off `before` and `after`."""
        pick = self._random.choice
        if kind == "year":
            if before and before[-1].lower() in ("in", "of", "since"):
                before.pop()
            return pick(("When", "When", "In what year", "What year"))
        if kind == "number":
            return f"How many {after.pop(0)}" if after and after[0].isalpha() and len(after[0]) > 3 else "How much"
        if kind == "name":
            if before and before[-1].lower() in _PLACED:
                before.pop()
                return pick(("Where", "Where", "In which place"))
            return pick(("Who", "What", "Who", "Which name"))
        if before and before[-1].lower() == "the":
            before.pop()
        return "What"

    def _noisy(self, words: list[str]) -> list[str]:
        """Some words left out and some neighbours changed about, so that order is no sure guide."""
        random = self._random
        kept = [word for word in words if random.random() >= _DROPPED]
        for place in range(len(kept) - 1):
            if random.random() < 0.06:
                kept[place], kept[place + 1] = kept[place + 1], kept[place]
        return kept
