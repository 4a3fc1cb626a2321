"""The faults this program must survive: what is expected of it, and the tests that show it, or why there is none.

docs/durability.md's table is written from this list and from what the run measured.
"""

from __future__ import annotations

from dataclasses import dataclass

WRITE = "INGESTD_WRITE_DURABILITY"  # set: the run writes the document


@dataclass(frozen=True)
class Fault:
    """One line of the matrix. A fault without `tests` has a `note` that says why; with them, `note` adds to it."""

    number: int
    name: str
    expected: str
    tests: tuple[str, ...] = ()
    note: str = ""


_DB = "tests/fault/test_database.py::"
_PROCESS = "tests/fault/test_process.py::"
_KILLS = "tests/fault/test_kills.py::test_killed_again_and_again_nothing_journaled_is_lost_or_doubled"
_POINTS = "tests/fault/test_failpoints.py::"
_REDIS = "tests/fault/test_redis_live.py::"
_SINK = "tests/integration/sinks/test_timescale.py::"
_KAFKA = "tests/integration/sinks/test_kafka.py::"
_ACCEPT = "tests/acceptance/test_process.py::"
_SOCKET = "tests/contract/test_feeds_socket.py::"
_FRAMES = "tests/contract/test_feeds_ccxt_frames.py::"
_VALID = "tests/unit/test_validation.py::"
_JOURNAL = "tests/unit/journal/test_journal.py::"
_DISK = "tests/unit/journal/test_faults.py::"
_FULL_DISK = "tests/integration/journal/test_disk.py::"
_HTTP = "tests/unit/ops/test_endpoint.py::"
_HOSTS = "tests/fault/test_two_hosts.py::"
_GAPS = "tests/acceptance/test_gaps.py::"
_FUZZ = "tests/fuzz/test_fuzz.py::test_no_input_crashes_it_or_gives_a_wrong_record"

FAULTS = (
    Fault(
        1,
        "Database frozen for 1 s",
        "0 lost, 0 doubled, no error logged",
        (_DB + "test_frozen_for_a_second_nobody_notices",),
    ),
    Fault(
        2,
        "Database down for 60 s",
        "memory flat, ready (degraded) and live, first commit within 2 s",
        (_DB + "test_down_for_long_memory_stays_flat_and_the_backlog_is_gone_soon",),
    ),
    Fault(
        3,
        "Database down for 10 min at 5,000 events/s",
        "memory ≤ +64 MiB, drained at ≥ 3 × live",
        (
            _DB + "test_down_for_long_memory_stays_flat_and_the_backlog_is_gone_soon",
            _JOURNAL + "test_full_refuses_until_a_sink_catches_up",
        ),
        "INGESTD_FAULT_OUTAGE_S=600 runs it for the full ten minutes",
    ),
    Fault(
        4,
        "Backend killed in the middle of a COPY",
        "the same batch again, under the same position",
        (
            _DB + "test_the_backend_is_killed_in_the_middle_of_a_copy",
            _SINK + "test_terminated_backends_lose_and_double_nothing",
            _KILLS,
        ),
    ),
    Fault(
        5,
        "Server frozen in the middle of a COPY",
        "given up after flush_timeout_s, then retried",
        (
            _DB + "test_the_backend_is_frozen_longer_than_a_flush_may_take",
            "tests/integration/storage/test_database.py::test_a_copy_nobody_reads_ends_in_time",
        ),
    ),
    Fault(
        6,
        "Reply to the COMMIT lost",
        "resolved by the position row, 0 doubled",
        (
            _DB + "test_the_reply_to_the_commit_is_lost",
            _SINK + "test_a_lost_commit_reply_is_resolved_by_the_position",
            _DB + "test_the_network_between_misbehaves",
        ),
    ),
    Fault(
        7,
        "Disk of the database full (53100)",
        "the journal holds, nothing dropped",
        (_DB + "test_the_disk_of_the_database_is_full",),
    ),
    Fault(
        8,
        "Server became read-only (25006)",
        "the journal holds; a new connection each attempt",
        (_DB + "test_a_server_that_became_read_only",),
    ),
    Fault(
        9,
        "Deadlock, serialization failure",
        "retried; each row once",
        (_DB + "test_two_writers_of_the_same_trades_in_opposite_order",),
    ),
    Fault(10, "Waiting for a lock", "lock_timeout_s, then retried", (_DB + "test_a_lock_that_another_holds",)),
    Fault(
        11,
        "Poison row that the server refuses",
        "that row put aside, the others stored",
        (_SINK + "test_one_bad_row_costs_no_good_one", _SINK + "test_many_bad_rows_are_all_found"),
    ),
    Fault(
        12,
        "Poison that no encoding takes",
        "put aside before the journal",
        (
            _VALID + "test_each_flaw_has_its_reason",
            "tests/unit/intake/test_intake.py::test_no_value_of_a_venue_ends_the_capture_of_the_others",
        ),
    ),
    Fault(
        13,
        "NaN, infinite or negative price, absurd time",
        "put aside with its reason, no chunk made",
        (
            _VALID + "test_a_price_that_is_no_positive_finite_number_is_put_aside",
            _VALID + "test_each_flaw_has_its_reason",
        ),
    ),
    Fault(
        14,
        "Venue sends trades again after a reconnect",
        "0 doubled, counted as duplicate",
        (_SINK + "test_duplicates_are_absorbed_and_counted", _KILLS),
        "every kill of the campaign replays the last 500 trades",
    ),
    Fault(
        15,
        "Trade without an id, or with one that is not unique",
        "named after its fields",
        ("tests/unit/feeds/ccxt/test_records.py::test_a_trade_without_an_id_is_named_after_its_fields",),
    ),
    Fault(
        16,
        "Records hours late",
        "stored in their chunk, their candles refreshed",
        ("tests/integration/storage/test_late_trades.py::test_a_trade_months_late_reaches_its_candles",),
    ),
    Fault(
        17,
        "Clock of the venue is off",
        "its time is stored beside ours; too far ahead is put aside",
        (_VALID + "test_each_flaw_has_its_reason", _SINK + "test_times_are_exact_to_the_microsecond"),
    ),
    Fault(
        18,
        "Own wall clock jumps by an hour",
        "no timeout, no id used twice, nothing lost",
        (
            _PROCESS + "test_the_wall_clock_jumps",
            _PROCESS + "test_a_clock_that_is_behind_puts_everything_aside_and_loses_nothing",
        ),
        "a clock more than max_ahead_s behind puts everything aside: kept in rejected_records, not in the tables",
    ),
    Fault(
        19,
        "Half-open socket",
        "found by silence, dialled again, a gap recorded",
        (
            _SOCKET + "test_a_silent_socket_is_dialled_again",
            _GAPS + "test_a_process_that_was_stopped_does_not_take_it_for_the_venues_silence",
            "tests/unit/feeds/ccxt/test_session.py::test_a_silent_socket_is_dropped_once_and_its_streams_get_a_gap",
        ),
    ),
    Fault(
        20,
        "Flood of 20 times the usual",
        "memory flat, nothing dropped, caught up within 10 s",
        (
            _PROCESS + "test_a_flood_of_twenty_times_the_usual",
            "tests/fault/test_overload.py::test_a_flood_that_cannot_be_stored",
            "tests/integration/test_bursts.py::test_a_burst_is_stored_whole",
            "tests/unit/intake/test_intake.py::test_a_feed_that_ignores_the_gate_loses_counted",
        ),
    ),
    Fault(
        21,
        "Malformed or truncated frame",
        "counted; the next one is processed",
        (
            _FRAMES + "test_a_malformed_frame_is_counted_and_the_next_is_processed",
            _FRAMES + "test_an_error_in_the_venues_code_costs_only_its_frame",
            _FUZZ,
        ),
    ),
    Fault(
        22,
        "Giant message",
        "the connection is closed at the limit, a gap recorded; the others go on",
        (_SOCKET + "test_a_giant_message_costs_its_socket_and_nothing_else",),
    ),
    Fault(
        23,
        "429, 418, Retry-After",
        "no request until then",
        (
            "tests/unit/feeds/ccxt/test_subscription.py::test_a_rate_limit_is_honoured",
            "tests/unit/feeds/ccxt/test_tap.py::test_a_refused_handshake_is_a_rate_limit_with_its_pause",
        ),
    ),
    Fault(
        24,
        "Name or certificate of a venue does not resolve or hold",
        "dialled again, ever slower, jittered",
        (
            _SOCKET + "test_a_venue_that_is_down_is_asked_again",
            "tests/unit/test_retry.py::test_a_hundred_feeds_do_not_return_at_once",
            "tests/unit/feeds/ccxt/test_subscription.py::test_delays_grow_up_to_the_cap_while_the_venue_is_away",
        ),
        "to the feed every failed dial is the same error",
    ),
    Fault(
        25,
        "Unknown or delisted symbol",
        "it alone is put aside and named",
        (
            _ACCEPT + "test_one_unknown_symbol_touches_no_other",
            "tests/unit/feeds/ccxt/test_subscription.py::test_a_refused_symbol_is_found_by_halving_and_only_it_is_put_aside",
        ),
    ),
    Fault(
        26,
        "Redis down, frozen, out of memory",
        "the database is not touched; caches written again",
        (
            _REDIS + "test_frozen_for_three_seconds",
            _REDIS + "test_killed_and_started_again_empty",
            _REDIS + "test_out_of_memory_messages_go_on_and_the_caches_come_back",
            "tests/acceptance/test_redis_live.py::test_a_frozen_redis_does_not_move_the_database",
        ),
    ),
    Fault(
        27,
        "Redis subscriber that never reads",
        "Redis cuts it, nobody waits",
        (_REDIS + "test_a_subscriber_that_never_reads_is_cut_and_delays_nobody",),
    ),
    Fault(
        28,
        "Kafka down",
        "0 lost; after positions are applied 0 doubled",
        (
            _KAFKA + "test_killed_and_started_again_under_load_nothing_is_lost",
            _KAFKA + "test_frozen_for_a_while_nothing_is_lost_or_doubled",
        ),
    ),
    Fault(
        29,
        "Kafka changes its leader",
        "retried",
        (
            _KAFKA + "test_after_an_error_a_new_producer_sends_again_from_there",
            "tests/integration/property/test_kafka_order.py::test_each_partition_is_the_journal_in_order",
        ),
        "brokers in the tests have one node: the error is injected, the election is not",
    ),
    Fault(
        30,
        "Message too large for the broker",
        "that one put aside, the others sent",
        (
            _KAFKA + "test_a_message_too_large_costs_no_other",
            _KAFKA + "test_a_message_the_broker_finds_too_large_is_found_and_put_aside",
        ),
    ),
    Fault(
        31,
        "Producer's sequence refused",
        "a new producer goes on from the acknowledged",
        (_KAFKA + "test_after_an_error_a_new_producer_sends_again_from_there",),
    ),
    Fault(
        32,
        "Zombie after a rebalance",
        "fenced by the epoch, stores nothing",
        (
            "tests/integration/sources/test_positions.py::test_each_claim_fences_off_the_one_before",
            "tests/integration/sources/test_positions.py::test_a_frozen_writer_is_disconnected",
            "tests/fault/test_three_sinks.py::test_three_sinks_store_every_message_once",
        ),
    ),
    Fault(
        33,
        "SIGTERM under load",
        "everything stored, exit 0 within 10 s",
        (_PROCESS + "test_stopped_under_load", _ACCEPT + "test_a_stop_under_load_loses_nothing_received"),
    ),
    Fault(
        34,
        "SIGTERM while the database is down",
        "exit 0 within 5 s, the rest in the journal",
        (_PROCESS + "test_stopped_while_the_database_is_away",),
    ),
    Fault(
        35,
        "SIGKILL at any moment",
        "all that is journaled stored once; journaling again within 3 s",
        (
            _KILLS,
            _POINTS + "test_every_place_on_the_way_to_the_database",
            _POINTS + "test_every_place_on_the_way_to_kafka",
            _POINTS + "test_redis_dying_with_the_daemon_costs_the_database_nothing",
            _POINTS + "test_a_migration_that_is_killed_begins_again",
            _GAPS + "test_a_kill_leaves_a_gap_that_contains_all_that_was_missed",
            "tests/integration/property/test_exactly_once.py::test_the_tables_equal_the_journal",
        ),
    ),
    Fault(36, "Killed by the kernel for its memory", "as 35", (_PROCESS + "test_killed_for_its_memory",)),
    Fault(
        37,
        "Host crash",
        "what was said to be journaled is there, nothing corrupt or reordered",
        (
            "tests/fault/test_power_loss.py::test_every_batch_said_to_be_durable_survives_any_cut_of_the_log",
            _DISK + "test_the_directory_is_durable_before_anything_is_in_it",
            _FULL_DISK + "test_a_crash_at_any_moment_of_salvaging_loses_no_sound_batch",
        ),
        "simulated: whatever was not synced is cut or zeroed; no power was pulled",
    ),
    Fault(
        38,
        "Started twice",
        "on one host the second refuses; on two one leads, the other takes over within 15 s",
        (
            _HOSTS + "test_a_second_daemon_on_the_same_directory_names_the_first",
            _HOSTS + "test_a_frozen_leader_is_replaced_and_stores_nothing_twice_when_it_comes_back",
            _HOSTS + "test_a_killed_leader_is_replaced_and_its_journal_is_stored_when_it_returns",
            _HOSTS + "test_a_leader_that_is_stopped_hands_over_at_once",
            _ACCEPT + "test_a_taken_port_and_a_taken_state_directory_are_named",
            _JOURNAL + "test_a_second_process_is_refused",
        ),
    ),
    Fault(39, "Reload of a bad file", "the old one runs on", (_ACCEPT + "test_a_reload_never_ends_the_daemon",)),
    Fault(
        40,
        "Disk of the journal full",
        "feeds held back, nothing lost, drains by itself",
        (
            _ACCEPT + "test_a_full_disk_holds_the_feeds_back_and_loses_nothing",
            _FULL_DISK + "test_the_backlog_is_read_while_the_disk_is_full",
        ),
    ),
    Fault(
        41,
        "Journal cannot write or sync",
        "never synced again; a new file, the batch written anew",
        (
            _DISK + "test_a_file_whose_sync_failed_takes_nothing_more",
            _POINTS + "test_every_place_on_the_way_to_the_database",
        ),
    ),
    Fault(
        42,
        "Torn, flipped, zeroed, missing or foreign journal file",
        "every sound batch kept, the rest moved aside",
        (
            _FUZZ,
            _JOURNAL + "test_a_flipped_bit_costs_at_most_its_page",
            _JOURNAL + "test_a_truncated_file_starts_and_keeps_what_is_readable",
            _JOURNAL + "test_a_foreign_file_is_moved_aside_and_said",
        ),
    ),
    Fault(
        43,
        "Refresh of candles fails",
        "ingestion not touched; the others are refreshed",
        ("tests/integration/storage/test_upkeep.py::test_one_bad_market_does_not_stop_the_candles",),
    ),
    Fault(
        44,
        "Retention drops a chunk under a late insert",
        "older than the retention is refused before the COPY",
        (
            _VALID + "test_each_flaw_has_its_reason",
            "tests/integration/storage/test_tables.py::test_retention_drops_chunks_and_not_the_candles",
        ),
    ),
    Fault(
        45,
        "Late rows for a compressed chunk",
        "stored once",
        ("tests/integration/storage/test_tables.py::test_late_rows_reach_compressed_chunks",),
    ),
    Fault(
        46,
        "Schema changed underneath",
        "not poison: held until it is mended; checked at the start",
        (_DB + "test_a_column_that_was_renamed", _ACCEPT + "test_a_newer_schema_is_refused"),
    ),
    Fault(
        47,
        "PgBouncer in transaction mode",
        "works",
        (
            _DB + "test_behind_pgbouncer_in_transaction_mode",
            "tests/integration/storage/test_pgbouncer.py::"
            "test_settings_statements_and_staging_tables_stay_with_their_transaction",
        ),
        "make pgbouncer runs every test with a database through it",
    ),
    Fault(
        48,
        "No connection left; password rotated",
        "the journal holds; the new password file is read",
        (_DB + "test_no_connection_left_and_a_rotated_password",),
    ),
    Fault(
        49,
        "Event loop blocked for 2 s",
        "live and ready afterwards, nothing lost",
        (_PROCESS + "test_the_loop_is_blocked_for_two_seconds",),
    ),
    Fault(
        50,
        "Event loop blocked for good",
        "silent to the watchdog, which restarts it: as 35",
        (
            _PROCESS + "test_a_blocked_loop_is_silent_to_the_watchdog",
            "tests/unit/ops/test_health.py::test_a_loop_that_stands_still_ends_liveness",
        ),
    ),
    Fault(
        51,
        "Slow, idle or huge requests to the endpoint",
        "cut off, refused; capture not touched",
        (
            _HTTP + "test_a_slow_request_is_cut_off",
            _HTTP + "test_a_slow_reader_is_cut_off",
            _HTTP + "test_a_large_request_is_refused",
            _HTTP + "test_idle_connections_make_room",
            _HTTP + "test_a_flood_of_scrapes_costs_one_rendering",
        ),
    ),
)
