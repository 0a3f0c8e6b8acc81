"""Log lines about mailboxes that wait for a login slot."""

from services.fetcher.postponements import EVERY_SECONDS, Postponements


def test_there_is_one_line_a_minute_for_each_provider_and_it_counts_the_others() -> None:
    now = 0.0
    postponements = Postponements(lambda: now)
    assert [postponements.count("a") for _ in range(5)] == [1, None, None, None, None]
    assert postponements.count("b") == 1
    now = EVERY_SECONDS
    assert postponements.count("a") == 5
    assert postponements.count("a") is None
