"""The section `[connections]`: the keys of stored credentials."""

from __future__ import annotations

from ingestd.config.section import Section
from ingestd.config.values import FilePath


class ConnectionsConfig(Section):
    """The key files of `exchange_connections`: `key_file` encrypts and decrypts, the others only decrypt."""

    key_file: FilePath | None = None
    other_key_files: list[FilePath] = []
