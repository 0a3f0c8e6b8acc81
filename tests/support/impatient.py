"""`python -m tests.support.impatient SERVICE`: the service with one change: work may wait 4 s, not 300.

The limit of the loops stays: a test shows that waiting work is noticed although every loop runs and every server answers.
"""

import os
import runpy

from services.common import health

SECONDS = 4.0

if __name__ == "__main__":
    health.ASK_SECONDS = 0.5
    health.WAITING_SECONDS = SECONDS
    runpy.run_module(os.environ.pop("SERVICE"), run_name="__main__", alter_sys=True)
