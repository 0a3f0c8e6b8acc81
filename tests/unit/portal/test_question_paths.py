"""The frequent questions: each has an answer and a short way to it, and docs/panel.md shows them as they are."""

from services.portal.panel import texts
from services.portal.panel.questions import QUESTIONS
from tests.portal.browser import question_paths


def test_each_question_has_an_answer_and_a_way() -> None:
    codes = [question.code for question in QUESTIONS]
    assert len(codes) == 10 == len(set(codes))
    assert list(texts.load()["question"]) == codes == list(question_paths.PATHS)
    assert set(codes) == set(texts.load()["answer"]) - {"when_at_once"}
    assert all(len(path.clicks) <= question_paths.MOST_CLICKS for path in question_paths.PATHS.values())


def test_the_table_of_the_page_is_that_of_the_paths() -> None:
    assert question_paths.render() in question_paths.PAGE.read_text("utf-8"), (
        "run `python -m tests.portal.browser.question_paths`"
    )
