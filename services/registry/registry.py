"""The registry in Postgres: companies, accounts, and the mailboxes that are read for them.

Each room of it has its module, its class and its .sql file; this is all of them over one connection. What polls read and
write is in leases.py. Nothing in the registry logs, and no error text holds an address, a user name or a secret.
"""

import psycopg

from services.common.hashing import Hasher
from services.registry.accounts import Accounts
from services.registry.addresses import Addresses
from services.registry.companies import Companies
from services.registry.connection_attempts import ConnectionAttempts
from services.registry.connection_tests import ConnectionTests
from services.registry.links import Links
from services.registry.logins import Logins
from services.registry.mailboxes import Mailboxes
from services.registry.vault import Vault


class Registry:
    """The tables of the registry by subject over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, hasher: Hasher, vault: Vault) -> None:
        self.connection = connection
        """May be used between two calls."""
        self.companies = Companies(connection)
        self.accounts = Accounts(connection)
        self.addresses = Addresses(connection, hasher, vault)
        self.mailboxes = Mailboxes(connection)
        self.links = Links(connection)
        self.logins = Logins(connection, hasher, vault)
        self.connection_attempts = ConnectionAttempts(connection, self.logins, self.addresses)
        self.connection_tests = ConnectionTests(connection, hasher)
