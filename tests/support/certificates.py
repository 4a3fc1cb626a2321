"""The certificates of the public authorities, read once.

The exchange library reads them for each of its exchanges, which takes longer than most tests that make one.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import certifi
import pytest


@pytest.fixture(scope="session", autouse=True)
def _certificates_read_once() -> Iterator[None]:
    make, authorities = ssl.create_default_context, {"cafile": certifi.where()}
    known = make(cafile=authorities["cafile"])

    def create_default_context(*args: Any, **options: Any) -> ssl.SSLContext:
        return known if not args and options == authorities else make(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", create_default_context)
        yield
