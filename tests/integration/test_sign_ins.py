"""States of sign-ins: each is used once, by the session that started it, within its life."""

import threading
from collections.abc import Iterator

import psycopg
import pytest

from services.common.postgres import connect
from services.registry.secret_tokens import token_hash
from services.registry.sign_ins import SignIns, UsedSignIn
from services.signin.authorization import new_state
from tests.integration.test_connect_requests import KEY_TOKEN, OTHER_TOKEN, PortalLogin, portal_dsn

__all__ = ["portal_dsn"]


@pytest.fixture
def own(portal_dsn: str) -> Iterator[SignIns]:
    portal = PortalLogin(portal_dsn)
    yield SignIns(portal.connection)
    portal.connection.close()


def test_a_state_is_used_once_and_then_leads_to_what_it_became(own: SignIns) -> None:
    state = new_state()
    assert own.begin(state, "google")
    assert own.use(state) == UsedSignIn("open", "google", None)
    assert own.use(state) == UsedSignIn("used", "google", None)
    own.note_request(state, "r-1")
    own.note_request(state, "r-2")
    assert own.use(state) == UsedSignIn("used", "google", "r-1")


def test_of_two_callbacks_at_the_same_moment_one_uses_the_state(own: SignIns, portal_dsn: str) -> None:
    state = new_state()
    own.begin(state, "google")
    outcomes: list[str] = []
    together = threading.Barrier(8)

    def use() -> None:
        signed_in = SignIns(PortalLogin(portal_dsn).connection)
        together.wait(30)
        outcomes.append(signed_in.use(state).outcome)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["open"] + ["used"] * 7


def test_a_state_expires(own: SignIns, dsn: str) -> None:
    state = new_state()
    own.begin(state, "google")
    with connect(dsn, "tests") as connection:
        connection.execute("UPDATE registry.sign_ins SET expires_at = clock_timestamp()")
    assert own.use(state) == UsedSignIn("expired", "google", None)


@pytest.mark.parametrize("token", [OTHER_TOKEN, KEY_TOKEN, "guessed", ""])
def test_a_state_of_another_session_is_unknown_and_stays_unused(own: SignIns, portal_dsn: str, token: str) -> None:
    state = new_state()
    own.begin(state, "google")
    stranger = SignIns(PortalLogin(portal_dsn, token).connection)
    assert stranger.use(state) == UsedSignIn("unknown", None, None)
    stranger.note_request(state, "r-1")
    assert own.use(state) == UsedSignIn("open", "google", None)
    assert own.use(new_state()) == UsedSignIn("unknown", None, None)


@pytest.mark.parametrize("token", [KEY_TOKEN, "guessed", ""])
def test_nobody_starts_a_sign_in_without_a_session(portal_dsn: str, token: str) -> None:
    assert not SignIns(PortalLogin(portal_dsn, token).connection).begin(new_state(), "google")


def test_with_its_session_a_sign_in_ends_and_is_deleted(own: SignIns, dsn: str) -> None:
    state = new_state()
    own.begin(state, "google")
    with connect(dsn, "tests") as connection:
        connection.execute("UPDATE registry.portal_sessions SET ended_at = now()")
        assert own.use(state).outcome == "unknown"
        [stored] = connection.execute("SELECT state_hash FROM registry.sign_ins").fetchall()
        assert stored == (token_hash(state),)
        connection.execute("SET ROLE replyrate_fetcher")
        connection.execute("DELETE FROM registry.portal_sessions WHERE company_id = 'c1'")
        connection.execute("RESET ROLE")
        assert connection.execute("SELECT count(*) FROM registry.sign_ins").fetchone() == (0,)


@pytest.mark.parametrize("statement", ["SELECT * FROM registry.sign_ins", "DELETE FROM registry.sign_ins"])
def test_the_web_process_reaches_the_table_through_its_functions_only(portal_dsn: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        PortalLogin(portal_dsn).connection.execute(statement.encode())
