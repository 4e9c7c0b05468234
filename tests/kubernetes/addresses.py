"""Addresses of loopback that are nobody's yet: all of 127.0.0.0/8 is ours."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection


def free_address(port: int = 0, taken: Collection[str] = ()) -> str:
    """Return an address of loopback on which nobody listens at `port`, and that is not taken."""
    while True:
        parts = random.randint(16, 254), random.randint(0, 254), random.randint(2, 254)
        address = "127." + ".".join(map(str, parts))
        if address in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except PermissionError:
                raise
            except OSError as error:
                if error.errno == 99:  # EADDRNOTAVAIL
                    raise RuntimeError(
                        "loopback has but one address here: on macOS, and not on Linux, the "
                        "others must be added to it first"
                    ) from error
                continue
        return address
