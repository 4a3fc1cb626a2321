"""A daemon whose stores refuse it or are away: none of its secrets is in its log, its pages or its files."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.daemon import running, write_config
from tests.support.postgres_doubles import double

SECRET = "S3cret-Canary"
SECRETS = {
    name: f"{SECRET}-{name}" for name in ("dsn", "redis", "kafka", "key", "proxy", "venue")
}  # fmt: skip


async def test_none_of_its_secrets_is_anywhere(tmp_path: Path) -> None:
    (tmp_path / "kafka").write_text(SECRETS["kafka"], encoding="utf-8-sig")
    (tmp_path / "credentials.toml").write_text(f'apiKey = "{SECRETS["key"]}"\nsecret = "{SECRETS["key"]}"\n')
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "database-seen").touch()  # it was there before: now it is an outage
    async with double("wrong password") as database:
        document = {
            "log": {"level": "debug", "format": "json"},
            "database": {"dsn": f"host=127.0.0.1 port={database.port} user=u dbname=db password='{SECRETS['dsn']} x'"},
            "redis": {"url": f"redis://u:{SECRETS['redis']}@127.0.0.1:1/0"},
            "kafka": {
                "bootstrap_servers": ["127.0.0.1:1"],
                "sasl_mechanism": "PLAIN",
                "username": "u",
                "password_file": "kafka",
            },
            "feeds": [
                {
                    "exchange": "kraken",
                    "decoder": "ccxt",
                    "symbols": ["BTC/USD"],
                    "channels": ["trades"],
                    "credentials_file": "credentials.toml",
                    "options": {"httpsProxy": f"http://u:{SECRETS['proxy']}@127.0.0.1:1"},
                    "url_map": {
                        "wss://ws.kraken.com": f"ws://u:{SECRETS['venue']}@127.0.0.1:1",
                        "https://api.kraken.com": f"http://u:{SECRETS['venue']}@127.0.0.1:1",
                    },
                }
            ],
        }
        async with running(write_config(tmp_path, document)) as daemon:
            async with asyncio.timeout(30):
                while database.asked < 2 or "127.0.0.1:1" not in daemon.log() or (await daemon.get("/readyz"))[0] == 0:
                    await asyncio.sleep(0.05)
            pages = [await daemon.get(path) for path in ("/", "/readyz", "/livez", "/metrics")]
            command_line = (await asyncio.to_thread(Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes)).decode()
            await daemon.stop()
        written = [
            file.read_bytes().decode(errors="replace") for file in (tmp_path / "state").rglob("*") if file.is_file()
        ]
        for text in [*(body for _, body in pages), command_line, daemon.log(), *written]:
            assert SECRET not in text
