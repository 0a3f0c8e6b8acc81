"""Worlds in which it is known why a rate is 0, and what the doctor says of them."""
