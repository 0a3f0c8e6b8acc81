"""The libraries of an image work without what the Dockerfile cuts off (deploy/strip_libraries.py)."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.standalone.servers.paths import ROOT

SCRIPT = ROOT / "deploy" / "strip_libraries.py"
WORK = {
    "zstandard": "import zstandard as m; assert m.ZstdDecompressor().decompress(m.ZstdCompressor().compress(b'x' * 999)) == b'x' * 999",
    "lz4": "import lz4, lz4.frame as m; assert m.decompress(m.compress(b'x' * 999)) == b'x' * 999; m = lz4",
    "cramjam": "import cramjam as m; assert bytes(m.snappy.decompress_raw(m.snappy.compress_raw(b'x' * 999))) == b'x' * 999",
    "cryptography": "import cryptography as m; from cryptography.hazmat.primitives.ciphers.aead import AESGCM;"
    " a = AESGCM(bytes(32)); assert a.decrypt(bytes(12), a.encrypt(bytes(12), b'x', b'y'), b'y') == b'x'",
    "rocksdict": "import rocksdict as m, tempfile; d = m.Rdict(tempfile.mkdtemp()); d['k'] = 1; assert d['k'] == 1; d.close()",
    "pyarrow": "import pyarrow as m, pyarrow.parquet as p; s = m.BufferOutputStream(); p.write_table(m.table({'a': [1, 2]}), s, compression='zstd');"
    " assert p.read_table(m.BufferReader(s.getvalue()), filters=[('a', 'in', [2])]).to_pylist() == [{'a': 2}]",
    "psycopg_binary": "import psycopg, psycopg_binary as m; assert psycopg.pq.__impl__ == 'binary' and psycopg.pq.version()",
    "msgspec": "import msgspec as m; assert m.json.decode(b'[1]') == [1]",
    "pydantic_core": "import pydantic_core as m; assert m.SchemaValidator({'type': 'int'}).validate_python('1') == 1",
    "aiokafka": "import aiokafka as m; from aiokafka.record._crecords import DefaultRecordBatchBuilder",
}  # fmt: skip
"""Package → Python that uses its shared libraries, with the package as `m`."""

REMOVED = {"pyarrow": re.findall(r"rm -rf (.+) \\\n", (ROOT / "Dockerfile").read_text("utf-8"))[0].split()}
"""What the Dockerfile removes of a package, beside debugging data."""


@pytest.mark.parametrize("package", sorted(WORK))
def test_a_library_works_after_it_was_stripped(package: str, tmp_path: Path) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    shutil.copytree(folder, tmp_path / package)
    if (companion := folder.with_name(f"{package}.libs")).is_dir():
        shutil.copytree(companion, tmp_path / companion.name)
    for pattern in REMOVED.get(package, ()):
        for path in (tmp_path / package).glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = size(tmp_path)
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    assert size(tmp_path) < before
    check = f"{WORK[package]}; assert m.__file__.startswith({str(tmp_path)!r}), m.__file__"
    outcome = subprocess.run(
        [sys.executable, "-c", check],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert outcome.returncode == 0, outcome.stderr


def test_what_is_no_library_stays_as_it_is(tmp_path: Path) -> None:
    contents = {
        "empty.so": b"",
        "text.so": b"INPUT(libc.so.6)\n",
        "short.so": b"\x7fELF\x02\x01\x01",
        "data.so.txt": b"\x7fELF" * 99,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link.so").symlink_to("text.so")
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], check=True, capture_output=True)
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents
    assert (tmp_path / "link.so").is_symlink()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
