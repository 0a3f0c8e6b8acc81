"""`python -m tests.support.impatient SERVICE`: the service as it is, but for one number: work may wait 4 s, not 300.

The loops' own limit stays: what is found out here is that work waits although everything moves and everything answers.
"""

import os
import runpy
import time

from services.common import health

SECONDS = 4.0

if __name__ == "__main__":
    health.ASK_SECONDS = 0.5
    health.ConsumerProgress.__init__.__defaults__ = (SECONDS, time.monotonic)
    runpy.run_module(os.environ.pop("SERVICE"), run_name="__main__", alter_sys=True)
