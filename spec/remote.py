"""A vault on another machine: the contract over a real server, what is asked again, and what is never done twice."""
from __future__ import annotations

import hashlib

import pytest

from spec.serving import serving  # noqa: F401  # a fixture
from vaults.stores.base import Options
from vaults.testing import StoreConformance


class TestRemoteConformance(StoreConformance):
    """A vault on a server meets the contract."""

    @pytest.fixture(autouse=True)
    def served(self, serving):  # noqa: F811  # the fixture
        self.url = serving.url

    def make_store(self, folder):
        from vaults.stores.http.opening import open_served
        return open_served(f'{self.url}/{hashlib.md5(str(folder).encode()).hexdigest()}', Options())
