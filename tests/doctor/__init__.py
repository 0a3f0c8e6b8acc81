"""Worlds with a known reason for a rate of 0, and the doctor's findings for them."""
