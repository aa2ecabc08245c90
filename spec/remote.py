"""A vault on another machine: the contract over a real server, what is asked again, and what is never done twice."""
from __future__ import annotations

import hashlib

import pytest

from spec import engines
from spec.servers import MissingServerError
from spec.serving import serving, shared_serving  # noqa: F401  # a fixture
from vaults.stores.base import Options
from vaults.stores.http.opening import open_served
from vaults.testing import StoreConformance


class TestRemoteConformance(StoreConformance):
    """A vault on a server meets the contract."""

    @pytest.fixture(autouse=True)
    def served(self, serving):  # noqa: F811  # the fixture
        self.url = serving.url

    def make_store(self, folder):
        return open_served(f'{self.url}/{hashlib.md5(str(folder).encode()).hexdigest()}', Options())


# --- what a vault promises, on a server ---------------------------------------------------------------------------

def new_remote_store(**options):
    """Return the store of a new vault on the server that all tests share; skip the test where there is none."""
    try:
        server = shared_serving()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    store = open_served(server.url_of(server.name()), Options(**options))
    store.__class__ = type('TrustedRemoteStore', (type(store),), {'sources': ()})  # nobody else writes it: values may be pickled
    return store


def on_a_server(tests, *left_out):
    """Return a class with the tests over the plain engine, on a server."""
    return type(tests.__name__.replace('ThePlainEngine', 'HTTP'), (tests,), {
        'make_engine': staticmethod(new_remote_store), '__module__': __name__, **dict.fromkeys(left_out)})


TestDictOverHTTP = on_a_server(engines.TestDictOverThePlainEngine)
TestViewsOverHTTP = on_a_server(engines.TestViewsOverThePlainEngine)
TestWalksOverHTTP = on_a_server(engines.TestWalksOverThePlainEngine)
TestSlicesOverHTTP = on_a_server(engines.TestSlicesOverThePlainEngine)
TestTransactionsOverHTTP = on_a_server(engines.TestTransactionsOverThePlainEngine)
TestListsOverHTTP = on_a_server(engines.TestListsOverThePlainEngine)
TestColumnsOverHTTP = on_a_server(engines.TestColumnsOverThePlainEngine)
TestSectionsOverHTTP = on_a_server(engines.TestSectionsOverThePlainEngine)
TestStreamsOverHTTP = on_a_server(engines.TestStreamsOverThePlainEngine)
TestHolesOverHTTP = on_a_server(engines.TestHolesOverThePlainEngine)
