"""The engine of PostgreSQL: the contract on a real server, and what becomes of a call when the server, or the way to it, fails."""
from __future__ import annotations

import hashlib

import pytest

from spec import engines, servers
from spec.helpers import server  # noqa: F401  # a fixture
from vaults.stores.base import Options
from vaults.testing import StoreConformance


@pytest.fixture(scope='session')
def database(server):  # noqa: F811  # the fixture
    """The URL of a database that the tests of this file share, each with vaults of its own."""
    return server.url(server.database())


class TestPostgreSQLConformance(StoreConformance):
    """PostgreSQL meets the contract, with either of the locks that writers wait for."""

    @pytest.fixture(autouse=True, params=[False, True], ids=['advisory locks', 'row locks'])
    def kind(self, request, database):
        self.url, self.by_rows = database, request.param

    def make_store(self, folder):
        from vaults.stores.postgresql.opening import open_vault
        name = hashlib.md5(str(folder).encode()).hexdigest()
        return open_vault(f'{self.url}?vault={name}', Options(), self.by_rows)


# --- what a vault promises, on a server ---------------------------------------------------------------------------

def new_store(**options):
    """Return the store of a new vault in the database that all tests share; skip the test where there is no server."""
    from vaults.stores.postgresql.opening import open_vault
    try:
        url = servers.postgres().vault()
    except servers.MissingServerError as missing:
        pytest.skip(str(missing))
    store = open_vault(url, Options(**options))
    store.__class__ = type('TrustedStore', (type(store),), {'sources': ()})  # nobody else writes it: values may be pickled
    return store


def on_postgresql(tests, *left_out):
    """Return a class with the tests over the plain engine, on PostgreSQL."""
    return type(tests.__name__.replace('ThePlainEngine', 'PostgreSQL'), (tests,), {
        'make_engine': staticmethod(new_store), '__module__': __name__, **dict.fromkeys(left_out)})


TestDictOverPostgreSQL = on_postgresql(engines.TestDictOverThePlainEngine)
TestViewsOverPostgreSQL = on_postgresql(engines.TestViewsOverThePlainEngine)
TestWalksOverPostgreSQL = on_postgresql(engines.TestWalksOverThePlainEngine)
TestSlicesOverPostgreSQL = on_postgresql(engines.TestSlicesOverThePlainEngine)
TestTransactionsOverPostgreSQL = on_postgresql(engines.TestTransactionsOverThePlainEngine)
TestListsOverPostgreSQL = on_postgresql(engines.TestListsOverThePlainEngine)
TestColumnsOverPostgreSQL = on_postgresql(engines.TestColumnsOverThePlainEngine)
TestSectionsOverPostgreSQL = on_postgresql(engines.TestSectionsOverThePlainEngine)
TestStreamsOverPostgreSQL = on_postgresql(engines.TestStreamsOverThePlainEngine)
TestHolesOverPostgreSQL = on_postgresql(engines.TestHolesOverThePlainEngine)
