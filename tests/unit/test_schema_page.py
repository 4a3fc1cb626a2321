"""The tables of docs/schema.md about other systems' documents: written from the fixtures, by INGESTD_WRITE_TABLE=1."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.sources import DOCUMENTS, named, table

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_page_has_the_table_of_each_document(document: str) -> None:
    head, start, rest = PAGE.read_text(encoding="utf-8").partition(f"<!-- names of {document} -->\n")
    _, end, tail = rest.partition(f"<!-- end of {document} -->\n")
    assert start
    assert end
    if os.environ.get("INGESTD_WRITE_TABLE"):
        PAGE.write_text(head + start + table(document) + end + tail, encoding="utf-8")
    assert start + table(document) + end in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_table_has_every_name_of_the_document(document: str) -> None:
    text = table(document)
    missing = {name for name in named(DOCUMENTS[document]) if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}
    assert missing == set()
