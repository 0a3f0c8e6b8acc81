"""docs/mailbox-states.md: the state machine of a mailbox, drawn from services/registry/states.toml."""

from services.registry import states
from services.registry.states import NEW


def page() -> str:
    """The page: a diagram, every state and every event in both languages."""
    machine = states.load()
    lines = [
        "# Mailbox states",
        "",
        "Rendered by `replyrate config docs --write docs` from `services/registry/states.toml`. The program takes every state",
        "change from that file; a database trigger rejects any other change and records each one",
        "(`replyrate mailbox history COMPANY MAILBOX`). [connecting.md](connecting.md) describes what a person does.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]
    for event in machine.events.values():
        lines += [f"    {'[*]' if state == NEW else state} --> {event.to}: {event.name}" for state in event.froms]
    lines += [
        "    removed --> [*]",
        "```",
        "",
        "| State | Meaning | 中文 |",
        "|---|---|---|",
        *(f"| `{state}` | {name.en} | {name.zh} |" for state, name in machine.names.items()),
        "",
        "| Event | From | To | By | Reason shown to people | 中文 |",
        "|---|---|---|---|---|---|",
    ]
    for event in machine.events.values():
        en, zh = (
            (event.says.en, event.says.zh) if event.says else ("the result of the connection test", "连接测试的结果")
        )
        from_states = ", ".join(f"`{state}`" for state in event.froms)
        lines.append(f"| {event.name} | {from_states} | `{event.to}` | {event.by} | {en} | {zh} |")
    return "\n".join(lines) + "\n"
