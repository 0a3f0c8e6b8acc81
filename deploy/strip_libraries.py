"""Cut debugging data off the shared libraries below a folder, as binutils' strip does: a third of what packages install.

The Dockerfile runs it, since the base image has no binutils and an image build should need no package mirror. The loader
reads program headers and segments only (elf(5)). What lies behind the last segment (symbols for debuggers, DWARF, section
headers) is not mapped into memory. A file that is no 64-bit little-endian ELF library stays as it is.

    python strip_libraries.py FOLDER
"""

import os
import struct
import sys
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01\x01"
"""64-bit, little-endian, version 1."""
SHARED = 3
"""e_type of a shared library (ET_DYN)."""
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")


def end_of_segments(library: bytes) -> int | None:
    """The offset behind the last byte that the loader reads; None when this is no shared library of that kind."""
    if not library.startswith(MAGIC) or len(library) < HEADER.size:
        return None
    header = HEADER.unpack_from(library)
    kind, segments_at, segment_size, segments = header[1], header[5], header[9], header[10]
    if kind != SHARED or segment_size != SEGMENT.size or not segments:
        return None
    end = segments_at + segments * segment_size
    for number in range(segments):
        _, _, offset, _, _, file_size, _, _ = SEGMENT.unpack_from(library, segments_at + number * segment_size)
        end = max(end, offset + file_size)
    return end if end <= len(library) else None


def stripped(library: bytes) -> bytes:
    """The library up to the end of its segments, with no section headers; unchanged when it is of another kind."""
    end = end_of_segments(library)
    if end is None:
        return library
    fields = list(HEADER.unpack_from(library))
    fields[6] = fields[12] = fields[13] = 0  # e_shoff, e_shnum, e_shstrndx
    return HEADER.pack(*fields) + library[HEADER.size : end]


def main(folder: Path) -> None:
    """Strip every library below `folder`, and print how many bytes that saved."""
    saved = 0
    for path in sorted(folder.rglob("*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        library = path.read_bytes()
        shorter = stripped(library)
        if len(shorter) < len(library):
            mode = path.stat().st_mode
            path.write_bytes(shorter)
            os.chmod(path, mode)
            saved += len(library) - len(shorter)
    print(f"stripped: {saved / 1e6:.1f} MB less")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
