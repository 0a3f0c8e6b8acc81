"""`python -m tests.doctor`: evaluates the doctor and writes confusion table and conditions into docs/doctor.md and docs/dev/doctor-evaluation.md."""

import shutil

from services.common import migrations
from services.common.postgres import connect
from services.standalone.servers.postgres import EmbeddedPostgres, scratch_folder
from tests.doctor.evaluation import conditions, evaluate, render
from tests.doctor.test_doctor import BLOCKS, PAGES


def main() -> None:
    folder = scratch_folder("replyrate-doctor-")
    try:
        with (
            EmbeddedPostgres(folder / "postgres") as server,
            connect(server.create_database("doctor"), "doctor") as connection,
        ):
            migrations.migrate(connection, lambda _: None)
            table = render(evaluate(connection))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, block in (("conditions", conditions()), ("confusion", table)):
        begin, end = BLOCKS[name]
        text = PAGES[name].read_text("utf-8")
        text = text[: text.index(begin) + len(begin)] + block + text[text.index(end) :]
        PAGES[name].write_text(text, "utf-8")
    print(table)


if __name__ == "__main__":
    main()
