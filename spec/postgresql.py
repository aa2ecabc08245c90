"""The engine of PostgreSQL: the contract on a real server, and what becomes of a call when the server, or the way to it, fails."""
from __future__ import annotations

import hashlib

import pytest

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
