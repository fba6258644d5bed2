"""Test extension: refuses every connection that leaves this machine, and writes down who was asked for.

PROBE_NETWORK_LOG names the file. The library `adetailer` is copied beside this file by the test.
"""

import os
import socket
from pathlib import Path

HERE = ("127.0.0.1", "localhost", "::1", "0.0.0.0")


def preload(parser):
    parser.add_argument("--ad-no-huggingface", action="store_true")
    log, resolve, connect = os.environ["PROBE_NETWORK_LOG"], socket.getaddrinfo, socket.socket.connect

    def refused(host):
        with Path(log).open("a") as file:
            file.write(f"{host}\n")
        raise socket.gaierror(socket.EAI_NONAME, "refused by the test")

    def getaddrinfo(host, *args, **kwargs):
        return resolve(host, *args, **kwargs) if host in (None, *HERE) else refused(host)

    def connect_here(self, address):
        local = not isinstance(address, tuple) or address[0] in HERE
        return connect(self, address) if local else refused(address[0])

    socket.getaddrinfo, socket.socket.connect = getaddrinfo, connect_here
