"""The same join on what one would take instead. Each is a process: address, group and output topic as arguments."""
