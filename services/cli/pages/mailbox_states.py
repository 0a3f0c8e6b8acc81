"""docs/mailbox-states.md: the life of a mailbox, drawn from services/registry/states.toml."""

from services.registry import states
from services.registry.states import NEW


def page() -> str:
    """The page: a diagram, every event, every state in both languages."""
    life = states.load()
    lines = [
        "# The life of a mailbox",
        "",
        "Rendered by `replyrate config docs --write docs` from `services/registry/states.toml`. The program takes every change of",
        "state from there, and a trigger of the database refuses any other one and writes each down",
        "(`replyrate mailbox history COMPANY MAILBOX`). [connecting.md](connecting.md) says what a person does.",
        "",
        "```mermaid",
        "stateDiagram-v2",
    ]
    for event in life.events.values():
        lines += [f"    {'[*]' if one == NEW else one} --> {event.to}: {event.name}" for one in event.froms]
    lines += [
        "    removed --> [*]",
        "```",
        "",
        "| State | In words | 中文 |",
        "|---|---|---|",
        *(f"| `{state}` | {said.en} | {said.zh} |" for state, said in life.names.items()),
        "",
        "| What happens | From | To | By | Why, as it is told | 中文 |",
        "|---|---|---|---|---|---|",
    ]
    for event in life.events.values():
        en, zh = (event.says.en, event.says.zh) if event.says else ("what the connection test found", "连接测试的结果")
        froms = ", ".join(f"`{one}`" for one in event.froms)
        lines.append(f"| {event.name} | {froms} | `{event.to}` | {event.by} | {en} | {zh} |")
    return "\n".join(lines) + "\n"
