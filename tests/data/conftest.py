"""Every data set loads with no network."""

import socket

import pytest


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No data set may ask for the network."""

    def refuse(*args, **kwargs):
        raise AssertionError("a data set asked for the network")

    monkeypatch.setattr(socket, "socket", refuse)
