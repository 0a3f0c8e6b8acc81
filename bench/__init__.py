"""Speed as ratios: replyrate beside the usual alternatives, in one run on one machine. `make bench`."""
