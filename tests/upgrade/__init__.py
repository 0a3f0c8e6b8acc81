"""Databases as earlier releases left them, and tests that today's migrations and code continue from there.

The services of an earlier release, which keep running over today's schema during an upgrade, are stored as code beside the
release's dump (`part-3.tar.gz`, 390 kB: its compose file and what its images are built from). Taking them out of git's history
would fail in a clone without history, which many build machines make. `make test` runs its processes with today's versions of
its dependencies; `make test-stack` builds its images with the versions that it pinned by hash. `make.py` creates both files.
"""
