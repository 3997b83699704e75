"""Natural passages: whole sentences, and questions whose answers stand in them."""

import json
import os
from pathlib import Path

import pytest
from memory3.model.prompts import UNKNOWN
from memory3.model.training.natural import QuestionSet, Quotations, sentences, windows

TEXT = (
    "Mira Sandoval keeps bees on the roof of the old post office. She sells the honey on Saturdays, next to the "
    'fountain. "Bees are quiet," she says. Her brother Tomas repairs clocks! Does he like honey? He eats it with bread '
    "and salt every morning before he opens the shop in the harbour. The ferry to the island leaves at nine."
)


def squad() -> dict[str, object]:
    def paragraph(context: str, asked: list[tuple[str, str]]) -> dict[str, object]:
        qas = [
            {"question": f" {question} ", "answers": [{"text": answer, "answer_start": context.index(answer)}]}
            for question, answer in asked
        ]
        return {"context": context, "qas": qas}

    bees = paragraph(
        TEXT,
        [
            ("Who keeps bees?", "Mira Sandoval"),
            ("When does the ferry leave?", "nine"),
            ("What does he eat it with?", "bread and salt every morning before he opens the shop"),
        ],
    )
    clocks = paragraph("The clock in Ostmark is from 1822. It strikes at noon.", [("From when is the clock?", "1822")])
    return {"data": [{"title": "Bees", "paragraphs": [bees, clocks]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.txt").write_text(TEXT + "\n<|doc|>\n" + "Too short to ask about.", encoding="utf-8")
    (tmp_path / "two.txt").write_text("  ".join(TEXT.split()[20:]), encoding="utf-8")
    return tmp_path


def test_sentences_are_cut_at_their_ends() -> None:
    cut = sentences(TEXT)
    assert cut[0] == "Mira Sandoval keeps bees on the roof of the old post office."
    assert cut[3] == "Her brother Tomas repairs clocks!"
    assert len(cut) == 7


@pytest.mark.parametrize("words", [5, 12, 30, 500])
def test_windows_are_whole_sentences_in_a_row(words: int) -> None:
    cut = list(windows(TEXT, words))
    assert all(len(window.split()) <= words for window in cut)
    kept = [sentence for sentence in sentences(TEXT) if len(sentence.split()) <= words]
    assert " ".join(cut) == " ".join(kept)


def test_quotations_ask_for_what_follows(folder: Path) -> None:
    source = Quotations(folder, seed=1)
    assert len(source) >= 2
    asked = 0
    for _ in range(200):
        passage = source.passage()
        assert passage.unanswerable == () and len(passage.text.split()) <= 60
        for question in passage.questions:
            quotation = question.text[question.text.index('"') + 1 : question.text.rindex('"')]
            assert passage.text.count(quotation) == 1
            after = passage.text.split(quotation)[1].lstrip('"').lstrip()
            assert question.answer and after.startswith(question.answer)
            asked += 1
    assert asked > 100


def test_a_question_set_asks_what_its_windows_answer(tmp_path: Path) -> None:
    path = tmp_path / "set.json"
    path.write_text(json.dumps(squad()))
    source = QuestionSet(path, seed=1, words_max=30)
    drawn = {passage.text: passage for passage in (source.passage() for _ in range(50))}
    assert len(drawn) == len(source) == 3
    asked = {question.text: question.answer for passage in drawn.values() for question in passage.questions}
    assert asked == {
        "Who keeps bees?": "Mira Sandoval",
        "When does the ferry leave?": "nine",
        "From when is the clock?": "1822",
    }, "questions stand stripped, and answers of more than six words are left out"
    for passage in drawn.values():
        assert all(question.answer in passage.text for question in passage.questions)
        assert passage.unanswerable and all(question.answer == UNKNOWN for question in passage.unanswerable)
        assert not {q.text for q in passage.questions} & {q.text for q in passage.unanswerable}


def test_real_data() -> None:
    """SQuAD and plain texts, where there are any: $MEMORY3_TEST_DATA, or `shared/data` beside the checkout."""
    data = Path(os.environ.get("MEMORY3_TEST_DATA") or Path(__file__).resolve().parents[3].parent / "shared" / "data")
    sets = sorted((data / "squad").glob("*.json"))
    if not sets:
        pytest.skip(f"no question sets in {data / 'squad'}; set MEMORY3_TEST_DATA to a folder with squad/*.json")
    source = QuestionSet(sets[0], seed=1)
    assert len(source) > 100
    for _ in range(300):
        passage = source.passage()
        assert passage.questions and len(passage.text.split()) <= 65
        assert all(question.answer in passage.text for question in passage.questions)
