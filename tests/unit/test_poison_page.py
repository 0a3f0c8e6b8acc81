"""The page of unusual records shows the kinds that the poison table tests."""

from tests.poison.kinds import KINDS
from tests.poison.page import PAGE, render


def test_the_page_is_fresh() -> None:
    page = PAGE.read_text("utf-8")
    assert page == render(page), "run `python -m tests.poison.page`"


def test_each_kind_has_a_name_of_its_own() -> None:
    names = [(kind.group, kind.name) for kind in KINDS]
    assert len(set(names)) == len(names) > 60
