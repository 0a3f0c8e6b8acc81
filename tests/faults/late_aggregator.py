"""`python -m tests.faults.late_aggregator`: the aggregator on a host whose clock is ten days behind."""

import sys

from tests.faults.late_clock import run_late

if __name__ == "__main__":
    sys.exit(run_late("aggregator"))
