"""`replyrate replay` and the oracle agree on the same dumps, to the last column.

Many histories are the companies of one run. A difference is printed as a sentence with the company's id, which is the
seed: `history(12)` is company h0012. HYPOTHESIS_PROFILE=long takes many more seeds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from services.recount.facts import Json
from services.recount.recount import recount, rule_set
from tests.oracle.compare import differences, disorder
from tests.oracle.drawn_rules import drawn, file_text
from tests.oracle.histories import ANCHORS, KEY, History, Judgement, anchor_of, history, lines

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "services" / "aggregator" / "judge" / "rule_sets"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.toml"))
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SEEDS = 400 if LONG else 40
"""Number of histories; each is judged at every instant of its anchor, by every rule set."""
DRAWN = 24 if LONG else 8
"""Number of rule sets drawn for each run, different ones each time."""

RUNS = [(anchor, judgement) for anchor, judgements in enumerate(ANCHORS) for judgement in judgements]


def replayed(folder: Path, histories: Sequence[History], judgement: Judgement, rules: Sequence[str]) -> Json:
    """The command's output for all histories in one run; `rules` by name or file."""
    files = {
        "inquiries": [event for own in histories for event in own.inquiries],
        "sent": [event for own in histories for event in own.sent],
        "coverage": [line for own in histories for line in own.coverage],
    }
    command = [sys.executable, "-m", "services.cli", "replay", "--json", "--as-of", judgement.as_of]
    for name, rows in files.items():
        (folder / f"{name}.ndjson").write_text(lines(rows), encoding="utf-8")
        if name != "coverage" or judgement.covered:
            command += [f"--{name}", str(folder / f"{name}.ndjson")]
    (folder / "key").write_bytes(KEY)
    command += ["--hash-key-file", str(folder / "key")]
    for name in rules:
        command += ["--rules", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    answer: Json = json.loads(done.stdout)
    return answer


def label(run: int) -> str:
    """The id of a run for pytest."""
    judgement = RUNS[run][1]
    return judgement.as_of if judgement.covered else f"{judgement.as_of}-uncovered"


@pytest.mark.parametrize("run", range(len(RUNS)), ids=label)
def test_replay_equals_oracle(tmp_path: Path, run: int) -> None:
    anchor, judgement = RUNS[run]
    histories = [history(seed) for seed in range(SEEDS) if anchor_of(seed) == anchor]
    own = sorted((Path(__file__).parent / "rule_sets").glob("*.toml"))
    for seed in range(run * DRAWN, run * DRAWN + DRAWN):
        path = tmp_path / f"drawn-{seed}.toml"
        path.write_text(file_text(drawn(seed)))
        own.append(path)
    product = replayed(tmp_path, histories, judgement, [*PRESETS, *map(str, own)])
    inquiries = [event for each in histories for event in each.inquiries]
    sent = [event for each in histories for event in each.sent]
    coverage = [line for each in histories for line in each.coverage] if judgement.covered else None
    rules = [rule_set(path) for path in [*(FOLDER / f"{name}.toml" for name in PRESETS), *own]]
    expected = recount(inquiries, sent, coverage, rules, judgement.as_of, KEY)
    assert {rate["rule_set"] for rate in expected["reply_rate"]} == {rule["name"] for rule in rules}
    problems = differences(product, expected)
    assert not problems, f"{len(problems)} differences\n" + "\n".join(problems[:40])
    assert disorder(product) == []
