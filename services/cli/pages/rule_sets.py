"""docs/rule-sets.md: every parameter, and every built-in rule set beside the others."""

from services.aggregator.judge import rules
from services.common.display import parameter_text


def page() -> str:
    """The page: a table of parameters, the built-in rule sets side by side, their sources."""
    schema = rules.schema()
    lines = [
        "# Rule sets",
        "",
        "Rendered by `replyrate config docs --write docs`. [rules.md](rules.md) explains how the parameters work together.",
        "",
        "| Parameter | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, form in schema["properties"].items():
        default = "**required**" if name in schema["required"] else f"`{parameter_text(form.get('default'))}`"
        values = f" One of {', '.join(f'`{value}`' for value in form['enum'])}." if "enum" in form else ""
        lines.append(f"| `{name}` | {default} | {form['description']}{values} |")
    presets = [rules.load_builtin(name) for name in rules.builtin_names()]
    lines += [
        "",
        "## Built-in rule sets",
        "",
        f"| | {' | '.join(f'`{rule_set.name}`' for rule_set in presets)} |",
        f"|---|{'---|' * len(presets)}",
    ]
    for key in schema["properties"]:
        if key not in ("name", "title", "source", "calendar"):
            cells = [parameter_text(rule_set.parameters()[key]) for rule_set in presets]
            lines.append(f"| {key} | {' | '.join(cells)} |")
    lines += ["", "Sources:", ""]
    lines += [f"- `{rule_set.name}` {rule_set.identity}: {rule_set.title}. {rule_set.source}." for rule_set in presets]
    return "\n".join(lines) + "\n"
