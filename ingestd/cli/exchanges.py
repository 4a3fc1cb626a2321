"""`ingestd exchanges`: lists the exchanges, their channels and their markets."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from ingestd.cli.options import config_file_option, json_option
from ingestd.cli.say import say, say_json
from ingestd.cli.signals import run_to_its_end
from ingestd.config import loading as configuration
from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError, FeedError, Problem

if TYPE_CHECKING:  # importing the exchange library takes a second
    from ingestd.feeds.catalog import Listing, Offer

_REPLY_WITHIN_S = 60.0


@click.command()
@click.argument("name", required=False)
@click.option(
    "--match",
    "patterns",
    multiple=True,
    metavar="SYMBOL",
    help='List the markets of this name or pattern, such as "*/USDT". May be repeated.',
)
@config_file_option(
    "Ask with the url_map, options and credentials of this exchange's feed in this file, and use the list of markets "
    "that a daemon has cached."
)
@json_option
def exchanges(name: str | None, patterns: tuple[str, ...], config_file: Path | None, as_json: bool) -> None:
    """List the exchanges; with NAME, the channels of that exchange; with --match, its markets, one symbol per line.

    Only --match may open a connection, to the venue; with -c it first looks for a market list saved by a daemon, at
    most a day old. Exits with 1 if the venue cannot be reached or nothing matches.
    """
    if name is None:
        if patterns or config_file is not None:
            raise click.UsageError("--match and -c need the NAME of an exchange")
        _list_all(as_json)
    elif patterns:
        _list_markets(name, patterns, config_file, as_json)
    else:
        _describe(name, as_json)


def _list_all(as_json: bool) -> None:
    from ingestd.feeds import catalog

    offers = catalog.offers()
    if as_json:
        say_json(orjson.dumps({"exchanges": [_document(offer) for offer in offers]}))
        return
    width = max(len(offer.exchange) for offer in offers)
    for offer in offers:
        say(f"{offer.exchange:{width}}  {offer.decoder:6}  {' '.join(offer.channels)}")


def _describe(name: str, as_json: bool) -> None:
    from ingestd.feeds import catalog

    offer = catalog.offer(name)
    if as_json:
        say_json(orjson.dumps(_document(offer)))
        return
    say(f"{offer.exchange}: read by {'a decoder of our own, and ccxt' if offer.decoder == 'native' else 'ccxt'}")
    for channel, decoder in offer.channels.items():
        notes = [f"timeframes {', '.join(offer.candles)}"] if channel == "candles" and offer.candles else []
        notes += ["needs an API key: set credentials_file"] if channel in offer.with_key else []
        notes += ["sampled: the exchange sends only some of the records"] if channel in offer.sampled else []
        say(f"  {channel:13}  {decoder:6}  {'; '.join(notes)}".rstrip())
    say(f'Its markets: ingestd exchanges {name} --match "{catalog.first_symbol(name).partition("/")[0]}/*"')


def _document(offer: Offer) -> dict[str, Any]:
    return {**asdict(offer), "decoder": offer.decoder}


def _list_markets(name: str, patterns: tuple[str, ...], config_file: Path | None, as_json: bool) -> None:
    from ingestd.feeds import catalog

    feed, state_dir = _feed_to_ask_with(catalog.known(name), patterns, config_file)
    try:
        listing = run_to_its_end(_listed_in_time(feed, state_dir))
    except FeedError as error:
        because = str(error) if str(error).endswith(("?", ".")) else f"{error}."
        raise FeedError(
            f"the markets of {name} cannot be had: {because} Check that this machine is online and that the venue "
            "serves the country it is in; to ask a mirror or proxy, use -c with a file whose feed has a url_map"
        ) from error
    if as_json:
        markets = [{"symbol": symbol, "kind": kind} for symbol, kind in listing.markets]
        document = {"exchange": name, **asdict(listing), "markets": markets}
        document["listed"] = document.pop("of")
        say_json(orjson.dumps(document))
    else:
        for symbol, _ in listing.markets:
            say(symbol)
        for line in _notes(name, listing):
            say(f"ingestd: note: {line}", err=True)
    if not listing.markets:
        raise SystemExit(1)


async def _listed_in_time(feed: FeedConfig, state_dir: Path | None) -> Listing:
    from ingestd.feeds import catalog

    try:
        async with asyncio.timeout(_REPLY_WITHIN_S):
            return await catalog.listed(feed, state_dir)
    except TimeoutError as late:
        raise FeedError(f"no answer within {_REPLY_WITHIN_S:g} s") from late


def _feed_to_ask_with(name: str, patterns: tuple[str, ...], config_file: Path | None) -> tuple[FeedConfig, Path | None]:
    """Build a feed of these symbols with the file's options; also return the daemon's state directory."""
    wanted = {"symbols": list(patterns), "max_symbols": max(1, len(patterns))}
    if config_file is None:
        return FeedConfig(exchange=name, **wanted), None
    config = configuration.load(config_file)
    feed = next((feed for feed in config.feeds if feed.exchange == name), None)
    if feed is None:
        raise ConfigError([Problem(str(config_file), f"has no feed of {name}", hint="leave -c out to ask the venue")])
    return feed.model_copy(update=wanted), config.instance.state_dir


def _notes(name: str, listing: Listing) -> list[str]:
    kept = "" if listing.age_s is None else f", from the list that a daemon loaded {listing.age_s / 3600:.1f} h ago"
    return [
        f"{len(listing.markets)} of the {listing.of} markets of {name}{kept}",
        *(f"{symbol}: {why}" for symbol, why in listing.unknown.items()),
        *(f"the list of {family} markets cannot be had: {why}" for family, why in listing.missing.items()),
    ]
