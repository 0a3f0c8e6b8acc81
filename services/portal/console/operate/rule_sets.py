"""Rule sets: the list, a rule set, a new definition, the comparison, the activation, and how far it is."""

from functools import partial
from typing import Annotated, Final

import psycopg
from fastapi import APIRouter, Depends, Form
from starlette.responses import RedirectResponse, Response

from services.aggregator.judge import rules
from services.aggregator.judge.rules import RuleSet
from services.aggregator.refresh import recompute, rule_set_states
from services.aggregator.refresh.rule_set_states import RuleSetState
from services.common.errors import ConfigError, ReplyrateError
from services.common.language import Bilingual
from services.portal.console.operate import rule_work
from services.portal.console.operate.rule_work import ChosenRuleSet, RuleComparison
from services.portal.console.operate.started_work import begin
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.portal.pages import live
from services.portal.pages.problems import PageProblem
from services.portal.pages.templates import render

PATH: Final = "/rule-sets"
NAME: Final = "rules"
DEFAULT: Final = "default"
Name = Annotated[str, Form(max_length=63)]
Definition = Annotated[str, Form(max_length=20_000)]
Company = Annotated[str, Form(max_length=128)]


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(PATH)
    def show_list(staff: Annotated[Staff, Depends(gate.operating_reader)]) -> Response:
        return staff.page("console_rules.html", NAME, states=_states(staff))

    @router.get(PATH + "/new")
    def show_new(staff: Annotated[Staff, Depends(gate.operating_reader)]) -> Response:
        return _new_page(staff, "")

    @router.get(PATH + "/{name}")
    def show(staff: Annotated[Staff, Depends(gate.operating_reader)], name: str) -> Response:
        return staff.page("console_rule_set.html", NAME, state=_state(staff, name), states=_states(staff))

    @router.get(PATH + "/{name}/progress")
    def show_progress(staff: Annotated[Staff, Depends(gate.operating_reader)], name: str) -> Response:
        return _progress_page(staff, name)

    @router.get(PATH + "/{name}/result")
    async def show_result(staff: Annotated[Staff, Depends(gate.operating_reader)], name: str) -> Response:
        await live.hold(lambda: _looked_at(gate, staff, name).is_finished)
        return RedirectResponse(f"{PATH}/{name}/progress", 303)

    @router.get(PATH + "/{name}/events")
    def follow(staff: Annotated[Staff, Depends(gate.operating_reader)], name: str) -> Response:
        return live.follow(partial(_part, gate, staff, name))

    _add_changes(router, gate)
    return router


def _add_changes(router: APIRouter, gate: StaffGate) -> None:
    @router.post(PATH + "/compare")
    def compare(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        name: Name = "",
        definition: Definition = "",
        against: Name = "",
        company: Company = "",
    ) -> Response:
        try:
            with staff.transaction() as connection:
                proposed = _chosen(staff, connection, name, definition)
                current = _current(staff, connection, against or proposed.rule_set.name)
        except ReplyrateError as error:
            return _refused(staff, name, definition, error)
        return begin(staff, "rules-diff", partial(rule_work.compare, staff, current, proposed, company.strip()))

    @router.post(PATH + "/activate")
    def activate(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        identity: Annotated[str, Form(max_length=40)],
        name: Name = "",
        definition: Definition = "",
        compared: Annotated[str, Form(max_length=40)] = "",
        without_comparison: Annotated[bool, Form()] = False,
    ) -> Response:
        try:
            with staff.transaction() as connection:
                proposed = _chosen(staff, connection, name, definition)
                chosen = proposed.rule_set
                if chosen.identity != identity:
                    # The file was changed after it was shown, or the form is not ours.
                    return _not_activated(staff, "changed")
                if not without_comparison and not _is_compared(staff, compared, proposed):
                    return _not_activated(staff, "not-compared")
                is_new = recompute.request(connection, chosen)
                staff.note(
                    connection, "activate-rules", rule_set=chosen.name, identity=chosen.identity, is_new=is_new,
                    without_comparison=without_comparison,
                )  # fmt: skip
        except ReplyrateError as error:
            return _refused(staff, name, definition, error)
        return RedirectResponse(f"{PATH}/{chosen.name}/progress", 303)

    @router.post(PATH + "/{name}/cancel")
    def cancel(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        name: str,
        identity: Annotated[str, Form(max_length=40)],
    ) -> Response:
        _state(staff, name)
        with staff.transaction() as connection:
            is_cancelled = recompute.cancel(connection, name, identity)
            if is_cancelled:
                staff.note(connection, "cancel-rules", rule_set=name, identity=identity)
        if not is_cancelled:
            return _progress_page(staff, name, is_changed=True)
        # Of a rule set that was typed in and never active, nothing is left.
        is_known = any(state.name == name for state in _states(staff))
        return RedirectResponse(f"{PATH}/{name}/progress" if is_known else PATH, 303)


def _states(staff: Staff) -> list[RuleSetState]:
    with staff.transaction() as connection:
        return rule_set_states.states(connection, staff.resources.settings.aggregator.rules_dir)


def _state(staff: Staff, name: str) -> RuleSetState:
    """The state of a rule set. ConsoleProblem when there is none with that name."""
    for state in _states(staff):
        if state.name == name:
            return state
    raise ConsoleProblem("not-found")


def _progress_page(staff: Staff, name: str, *, is_changed: bool = False) -> Response:
    """How far the computation is. `is_changed`: it is another one than the page showed on which somebody cancelled it."""
    return staff.page(
        "console_rules_progress.html",
        NAME,
        status=409 if is_changed else 200,
        state=_state(staff, name),
        is_changed=is_changed,
    )


def _looked_at(gate: StaffGate, staff: Staff, name: str) -> RuleSetState:
    gate.operating_reader(staff.request)
    return _state(staff, name)


def _part(gate: StaffGate, staff: Staff, name: str) -> str | None:
    """What changes while companies are judged; None when nothing is computed. PageProblem when the session is over."""
    try:
        state = _looked_at(gate, staff, name)
    except ConsoleProblem:
        raise PageProblem("session-ended") from None
    if state.is_finished:
        return None
    return render("console_rules_part.html", staff.language, state=state, p=staff.says)


def _chosen(staff: Staff, connection: psycopg.Connection, name: str, definition: str) -> ChosenRuleSet:
    """The rule set of a form: a definition that was typed in, or what the file of that name defines. ReplyrateError."""
    settings = staff.resources.settings
    if definition.strip():
        text = definition.replace("\r\n", "\n")
        rule_set = rule_set_states.defined(connection, text, settings.aggregator.rules_dir)
    elif name:
        text, rule_set = "", _from_file_or_stored(staff, connection, name)
    else:
        raise ReplyrateError(staff.says("rules.definition_missing"))
    rules.check_horizon(rule_set, settings.horizon_days)
    active_identities = {active.name: active.identity for active in recompute.active_readonly(connection)}
    return ChosenRuleSet(rule_set, text, active_identities.get(rule_set.name, ""))


def _is_compared(staff: Staff, work_id: str, proposed: ChosenRuleSet) -> bool:
    """Whether a comparison of this session showed, within the last hour, what activating a rule set changes."""
    work = staff.resources.work.get(work_id, staff.session.session_id)
    return work is not None and isinstance(work.result, RuleComparison) and work.result.is_for(proposed)


def _not_activated(staff: Staff, code: str) -> Response:
    """`code`: why; see the template."""
    return staff.page("console_rules_refused.html", NAME, status=409, sentences=(), code=code)


def _from_file_or_stored(staff: Staff, connection: psycopg.Connection, name: str) -> RuleSet:
    folder = staff.resources.settings.aggregator.rules_dir
    stored = {rule_set.name: rule_set for rule_set in recompute.stored_rule_sets(connection)}
    if name in stored and name not in rules.names(folder):
        return stored[name].rule_set
    return rules.load(name, folder)


def _current(staff: Staff, connection: psycopg.Connection, name: str) -> RuleSet:
    """A rule set as it is active, else as its file says; for a name that is new, the default rule set. ReplyrateError."""
    known_states = {
        state.name: state for state in rule_set_states.states(connection, staff.resources.settings.aggregator.rules_dir)
    }
    state = known_states.get(name, known_states[DEFAULT])
    if state.rule_set is None:
        raise ConfigError(state.problems)
    return state.rule_set


def _refused(staff: Staff, name: str, definition: str, error: ReplyrateError) -> Response:
    if definition.strip():
        return _new_page(staff, definition, error.sentences)
    return staff.page("console_rules_refused.html", NAME, status=422, sentences=error.sentences, code="")


def _new_page(staff: Staff, definition: str, sentences: tuple[str | Bilingual, ...] = ()) -> Response:
    return staff.page(
        "console_rules_new.html", NAME, status=422 if sentences else 200, definition=definition, sentences=sentences,
        states=_states(staff),
    )  # fmt: skip
