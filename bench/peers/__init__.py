"""The same join on the usual alternatives. Each is a process with address, group and output topic as arguments."""
