"""Bytes that no mail program wrote, on their way from a server's answer to the event."""
