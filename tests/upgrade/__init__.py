"""Databases as earlier releases left them, and that today's migrations and code go on from there."""
