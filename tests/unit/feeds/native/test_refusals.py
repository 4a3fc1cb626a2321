"""Which stream of a socket is refused. No clock, no socket."""

from __future__ import annotations

from ingestd.feeds.native.refusals import CONSENT_WITHIN_S, Refusal, Refusals
from ingestd.feeds.native.subscriptions import ANSWER_WITHIN_S
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.quarantine import QUARANTINE_S, RETRY_S, SHORT_QUARANTINE_S
from ingestd.venues.messages import Notice
from ingestd.venues.venue import Asked

START_S = 1000.0
A, B, C = (Asked("trades", name) for name in "abc")
UNNAMED = Notice("refused", "something is wrong")


def named(market_id: str) -> Notice:
    return Notice("refused", f"no {market_id}", market_id)


class Searching:
    """The streams a, b and c, all of which have been asked for and are silent; a clock that the test moves."""

    def __init__(self) -> None:
        self.streams = {asked: Stream("trades", asked.market_id.upper()) for asked in (A, B, C)}
        self.refusals = Refusals(self.streams, feed="venue", url="wss://venue")
        self.asked = {A, B, C}
        self.now_s = START_S
        self.nothing_delivers = False

    def judge(self, *heard: Notice) -> list[Refusal]:
        """What is refused after the venue said that."""
        for notice in heard:
            self.refusals.heard(notice)
        silent = [asked for asked, stream in self.streams.items() if asked in self.asked and not stream.received]
        refused = self.refusals.judge(silent, self.now_s, nothing_delivers=self.nothing_delivers)
        self.asked.difference_update(refusal.asked for refusal in refused)
        return refused

    def ask_alone(self) -> Asked:
        """Ask for the next suspect."""
        asked = self.refusals.suspect
        assert asked is not None
        self.refusals.asked_alone(asked, self.now_s)
        self.asked.add(asked)
        return asked

    def wait(self, seconds: float) -> list[Asked]:
        """Let time pass; which streams turn out to deliver."""
        self.now_s += seconds
        return self.refusals.release(self.now_s)

    def deliver(self, asked: Asked) -> None:
        self.streams[asked].received += 1

    def held(self) -> set[Asked]:
        return {asked for asked in self.streams if self.refusals.holds(asked)}

    def refuse_until_quarantined(self) -> None:
        """`a`, by its name."""
        while not self.judge(named("a"))[0].is_quarantined:
            self.wait(RETRY_S)
            self.ask_alone()


def test_a_named_refusal_is_about_the_silent_streams_of_that_market() -> None:
    made = Searching()
    book = Asked("order_book", "b")
    made.streams[book] = Stream("order_book", "B")
    made.asked.add(book)

    assert made.judge(named("b")) == [Refusal(B, "no b", False), Refusal(book, "no b", False)]
    assert made.held() == {B, book}
    assert made.refusals.suspect is None


def test_a_stream_that_delivers_is_not_refused() -> None:
    made = Searching()
    made.deliver(B)

    assert made.judge(named("b")) == []
    made.judge(UNNAMED)
    assert made.held() == {A, C}


def test_two_refusals_of_one_market_at_once_count_as_one() -> None:
    made = Searching()

    assert made.judge(named("b"), named("b")) == [Refusal(B, "no b", False)]


def test_after_a_refusal_without_a_name_each_silent_stream_is_asked_for_alone() -> None:
    made = Searching()

    assert made.judge(UNNAMED) == []
    assert made.held() == {A, B, C}
    assert made.ask_alone() == A
    assert made.refusals.awaits_answer


def test_a_stream_that_the_venue_consents_to_is_not_the_refused_one() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()

    made.refusals.consented()
    assert made.judge(UNNAMED) == []
    assert not made.refusals.awaits_answer
    assert made.ask_alone() == B


def test_a_stream_that_delivers_when_asked_for_alone_is_not_the_refused_one() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()

    made.deliver(A)
    assert made.judge(UNNAMED) == []
    assert made.ask_alone() == B


def test_a_refusal_is_believed_when_no_consent_follows() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()

    assert made.judge(UNNAMED) == []
    assert made.refusals.due_in_s(made.now_s) == CONSENT_WITHIN_S
    made.wait(CONSENT_WITHIN_S)
    assert made.judge() == [Refusal(A, UNNAMED.text, False)]
    assert made.held() == {A, B, C}
    assert made.ask_alone() == B


def test_more_refusals_do_not_put_the_decision_off() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()
    made.judge(UNNAMED)
    made.wait(CONSENT_WITHIN_S / 2)
    made.judge(UNNAMED)

    assert made.refusals.due_in_s(made.now_s) == CONSENT_WITHIN_S / 2


def test_a_venue_that_answers_nothing_refuses_nothing() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()

    made.wait(ANSWER_WITHIN_S)
    assert made.judge() == []
    assert not made.refusals.awaits_answer


def test_a_refusal_by_name_ends_the_wait_for_an_answer() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()

    assert made.judge(named("a")) == [Refusal(A, "no a", False)]
    assert not made.refusals.awaits_answer


def test_a_refusal_of_another_market_is_not_about_the_one_that_was_asked_for_alone() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()
    made.refusals.drop(C)

    assert made.judge(named("c")) == [Refusal(C, "no c", False)]
    assert made.refusals.awaits_answer


def test_what_is_no_longer_wanted_is_neither_asked_for_nor_judged() -> None:
    made = Searching()
    made.judge(UNNAMED)
    made.ask_alone()
    for asked in (A, B):
        del made.streams[asked]
        made.refusals.drop(asked)

    assert made.judge(UNNAMED) == []
    assert made.ask_alone() == C


def test_the_third_refusal_quarantines_for_an_hour() -> None:
    made = Searching()
    made.refuse_until_quarantined()

    assert made.wait(QUARANTINE_S - 1) == []
    assert made.refusals.suspect is None
    made.wait(1)
    assert made.ask_alone() == A
    assert made.judge(named("a")) == [Refusal(A, "no a", True)]


def test_where_nothing_delivers_the_venue_is_asked_again_after_a_minute() -> None:
    made = Searching()
    made.nothing_delivers = True
    made.refuse_until_quarantined()

    made.wait(SHORT_QUARANTINE_S)
    assert made.refusals.suspect == A


def test_a_quarantined_stream_that_delivers_is_free_at_once() -> None:
    made = Searching()
    made.refuse_until_quarantined()

    made.deliver(A)
    assert made.wait(0) == [A]
    assert made.held() == set()


def test_a_lost_socket_shortens_a_quarantine_and_ends_the_wait_for_an_answer() -> None:
    made = Searching()
    made.refuse_until_quarantined()
    made.judge(UNNAMED)
    made.ask_alone()
    made.refusals.heard(UNNAMED)

    made.refusals.socket_lost(made.now_s)
    assert not made.refusals.awaits_answer
    assert made.judge() == []
    made.wait(SHORT_QUARANTINE_S)
    assert A in made.held()
    assert made.refusals.suspect in {B, C}  # still to be asked for alone


def test_a_refusal_without_words_has_a_reason_all_the_same() -> None:
    assert Searching().judge(Notice("refused", "", "a")) == [Refusal(A, "refused by the venue", False)]
