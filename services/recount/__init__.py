"""An independent recount of reply rates, in plain Python, for the demo and the tests.

Written from the rules and the contracts, not from the services, and sharing no code with them: its own join, merge,
hashes, calendar and arithmetic; an import contract checks that it imports nothing of ours. It is slow and simple on
purpose. Instants are whole microseconds since 1970 (UTC), seconds are fractions until the last line. `noticed` counts
which rules had something to decide, so that a test can show that its histories reach them.

1. join: events of both topics → inquiries with their statuses and replies
2. coverage: coverage lines → what was read when
3. judge: units and outcomes under a rule set at an instant
4. rates: the row of a window
5. recount: all of it, as `replyrate replay` prints it; company: the same for one company's facts, as the demo has them
"""
