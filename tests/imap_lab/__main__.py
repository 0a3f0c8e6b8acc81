"""`python -m tests.imap_lab`: runs the connection test against every server of the lab, and writes docs/dev/lab.md."""

import shutil

from services.standalone.servers.ca import CertificateAuthority
from services.standalone.servers.postgres import scratch_folder
from tests.imap_lab import matrix
from tests.imap_lab.test_matrix import BLOCKS, PAGE


def main() -> None:
    folder = scratch_folder("replyrate-lab-")
    try:
        ca = CertificateAuthority(folder / "ca")
        rendered = {"providers": matrix.providers(folder, ca), "defects": matrix.defects(folder, ca)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = PAGE.read_text("utf-8")
    for name, block in rendered.items():
        begin, end = BLOCKS[name]
        text = text[: text.index(begin) + len(begin)] + block + text[text.index(end) :]
        print(block)
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
