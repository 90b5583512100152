"""Webhooks: the form of a message, where it may go, and that each is told until it is taken or given up."""

import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.db import transaction
from standardwebhooks import Webhook as Receiver
from standardwebhooks import WebhookVerificationError

from registry import errors
from registry.models import AuditEntry, Webhook, WebhookDelivery
from registry.services import webhooks
from registry.webhooks import egress, messages, sealing
from tests import factories
from tests.factories import NOW

URL = "https://hooks.example.com/aerogram"


class Receiving:
    """The boundary: answers as told, keeps what it was sent."""

    def __init__(self, *answers: int | BaseException) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, dict[str, str], str]] = []

    def __call__(self, url: str, headers: dict[str, str], text: str, *, allow_private: bool) -> egress.Answer:
        assert not allow_private
        self.sent.append((url, headers, text))
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return egress.Answer(answer, f"answered {answer}")


@pytest.fixture
def application():
    return factories.application()


@pytest.fixture
def webhook(application):
    row, row.shown_secret = webhooks.create_webhook(
        application=application, name="ops", url=URL, event_types=[], actor="ada", now=NOW
    )
    return row


def told(application, subject="release 1"):
    return webhooks.notify(
        application=application, event_type="release.published", subject=subject, data={"version": 2}, now=NOW
    )


def attempt(delivery, receiving, at):
    webhooks.attempt(delivery_id=delivery.pk, clock=lambda: at, send=receiving)
    delivery.refresh_from_db()


# -- the form of a message


def test_the_specifications_example():
    """From the reference implementation's own description of the scheme."""
    sent = messages.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, tz=UTC),
        '{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sent["webhook-timestamp"] == "1614265330"


def test_a_stock_receiver_takes_it_with_either_of_two_secrets():
    now, text = datetime.now(UTC), messages.body("release.published", NOW, {"model": "größe"})
    old, new = messages.new_secret(), messages.new_secret()
    sent = messages.headers("id-1", now, text, [new, old])
    for secret in (old, new):
        assert Receiver(secret).verify(text, sent)["type"] == "release.published"
    with pytest.raises(WebhookVerificationError):
        Receiver(messages.new_secret()).verify(text, sent)
    with pytest.raises(WebhookVerificationError):
        Receiver(new).verify(text.replace("größe", "grosse"), sent)


def test_secrets_are_as_long_as_the_specification_asks():
    assert 24 <= len(b64decode(messages.new_secret().removeprefix("whsec_"))) <= 64


def test_the_text_is_compact_sorted_and_in_utc():
    at = datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    expected = '{"data":{"a":"größe","b":1},"timestamp":"2026-11-22T23:30:00Z","type":"webhook.test"}'
    assert messages.body("webhook.test", at, {"b": 1, "a": "größe"}) == expected
    assert messages.headers("id-1", at, expected, [messages.new_secret()])["content-type"] == "application/json"


def test_attempts_are_spread_as_the_specification_advises():
    """Ten attempts: at once, and after each of nine waits."""
    waits = [messages.retry_after(attempts) for attempts in range(1, 11)]
    minutes = [None if wait is None else wait.total_seconds() / 60 for wait in waits]
    assert minutes == [5 / 60, 5, 30, 120, 300, 600, 840, 1200, 1440, None]


# -- where it may go

PRIVATE = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:0:0:0:0:0:1", "192.0.2.1", "fec0::1", "::7f00:1",
    "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "100.100.100.200", "::ffff:168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_only_this_network_reaches_are_refused(address):
    assert not egress.is_public(address)
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert "public" in str(egress.check_url(url, allow_private=False))


@pytest.mark.parametrize("address", ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_reached(address):
    assert egress.is_public(address)
    url = f"https://[{address}]/" if ":" in address else f"https://{address}/"
    assert egress.check_url(url, allow_private=False) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/~ada", "https://[::1]/", "http://hooks.test/"])
def test_a_server_of_ones_own_network_may_be_allowed(url):
    assert egress.check_url(url, allow_private=True) is None
    assert egress.check_url("ftp://hooks.test/", allow_private=True) == "expected https://, got ftp"


def test_the_longest_url():
    longest = "https://h.example/".ljust(2000, "x")
    assert egress.check_url(longest, allow_private=False) is None
    assert "at most 2000" in str(egress.check_url(longest + "x", allow_private=False))


@pytest.mark.parametrize(("status", "is_success"), [(199, False), (200, True), (299, True), (300, False)])
def test_what_counts_as_taken(status, is_success):
    assert egress.Answer(status, "").is_success is is_success


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "ftp://hooks.example.com/", "http://hooks.example.com/", "https://", "https://:443/",
        "https://ada:secret@hooks.example.com/", "https://hooks.example.com/#part", "https://hooks.example.com:99999/",
        "https://hooks.example.com:0/", "https://hooks.example.com/a b", "https://hooks.example.com/\r\nX: y",
        "https://[::1", "https://bücher.example/", "https://h.example/" + "x" * 2000,
    ],
)  # fmt: skip
def test_urls_that_no_webhook_can_have(url):
    assert str(egress.check_url(url, allow_private=False)).startswith("expected")


def test_a_name_that_resolves_inward_is_refused_when_connecting():
    """The name was harmless when it was checked; the guard asks where the connection is made."""
    with pytest.raises(egress.AddressRefused, match=r"hooks\.example\.com is 127\.0\.0\.1"):
        egress.send(URL, {}, "{}", allow_private=False, resolve=lambda _host, _port: ["93.184.215.14", "127.0.0.1"])


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost"])
def test_other_ways_to_write_an_inner_address_are_refused_when_connecting(host):
    assert egress.check_url(f"https://{host}/", allow_private=False) is None, "it is a name until it is resolved"
    with pytest.raises(egress.AddressRefused, match="expected a public address"):
        egress.send(f"https://{host}/", {}, "{}", allow_private=False)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.seen.append((self.path, self.headers["Host"], self.rfile.read(length)))
        self.send_response(302 if self.path == "/away" else 200)
        self.send_header("Location", "/there")
        self.end_headers()
        self.wfile.write({"/long": b"x" * 100_000, "/odd": b"a\0\xff"}.get(self.path, b"thanks"))

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[Any]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sent_to(receiver, path):
    url = f"http://hooks.test:{receiver.server_port}{path}"
    return egress.send(url, {"x": "y"}, "{}", allow_private=True, resolve=lambda _host, _port: ["127.0.0.1"])


def test_the_text_goes_to_the_checked_address_under_the_name(receiver):
    assert sent_to(receiver, "/") == egress.Answer(200, "thanks")
    assert receiver.seen == [("/", f"hooks.test:{receiver.server_port}", b"{}")]


def test_an_answer_that_is_no_text_can_be_kept_as_text(receiver):
    assert sent_to(receiver, "/odd").text == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"


def test_an_address_is_not_resolved(receiver):
    url = f"http://127.0.0.1:{receiver.server_port}/"
    assert egress.send(url, {}, "{}", allow_private=True, resolve=lambda _host, _port: []).text == "thanks"


def test_a_redirect_is_not_followed(receiver):
    assert not sent_to(receiver, "/away").is_success
    assert [path for path, _, _ in receiver.seen] == ["/away"]


def test_of_a_long_answer_the_beginning_is_kept(receiver):
    assert len(sent_to(receiver, "/long").text) == egress.MOST_ANSWER_BYTES


def test_an_answer_that_drips_is_not_waited_for(receiver):
    """Each byte in time, all of them in hours: a worker would be kept from everything else."""
    seconds = iter(range(0, 1000, 4))
    url = f"http://hooks.test:{receiver.server_port}/long"
    with pytest.raises(egress.Undelivered, match="ReadTimeout: expected the whole answer within 15 s"):
        egress.send(
            url, {}, "{}", allow_private=True, resolve=lambda _host, _port: ["127.0.0.1"], clock=lambda: next(seconds)
        )


def test_nobody_there_is_no_answer(receiver):
    with pytest.raises(egress.Undelivered, match="ConnectError"):
        egress.send("http://127.0.0.1:1/", {}, "{}", allow_private=True)


# -- that each is told


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("services")
class TestDeliveries:
    def test_an_event_that_did_not_happen_is_not_told(self, application, webhook):
        with transaction.atomic():
            told(application)
            transaction.set_rollback(True)
        assert not webhook.deliveries.exists()

    def test_telling_twice_tells_once(self, application, webhook):
        assert len(told(application)) == 1
        assert told(application) == []
        assert webhook.deliveries.count() == 1

    def test_each_webhook_is_told_what_it_wants(self, application, webhook):
        for name, wanted in (("some", ["rollout.halted"]), ("same", ["release.published"])):
            webhooks.create_webhook(
                application=application, name=name, url=URL, event_types=wanted, actor="ada", now=NOW
            )
        assert {delivery.webhook.name for delivery in told(application)} == {"ops", "same"}

    def test_what_is_sent_verifies_and_says_what_happened(self, application, webhook):
        (delivery,) = told(application)
        receiving = Receiving(200)
        attempt(delivery, receiving, datetime.now(UTC))
        ((url, headers, text),) = receiving.sent
        assert (url, delivery.state, delivery.answer_status) == (URL, "delivered", 200)
        assert Receiver(webhook.shown_secret).verify(text, headers) == {
            "type": "release.published",
            "timestamp": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data": {"application": "demo", "version": 2},
        }

    def test_failures_are_tried_again_for_three_days_and_then_given_up(self, application, webhook):
        (delivery,) = told(application)
        at, waits = NOW, []
        for _ in range(len(messages.RETRY_AFTER) + 1):
            attempt(delivery, Receiving(500), at)
            waits.append(delivery.next_attempt_at - at)
            at = delivery.next_attempt_at
        assert tuple(waits[:-1]) == messages.RETRY_AFTER
        assert (delivery.state, delivery.attempts, delivery.answer) == ("failed", 10, "answered 500")
        assert timedelta(days=3) < at - NOW < timedelta(days=4)

    def test_no_answer_is_a_failure_with_its_reason(self, application, webhook):
        (delivery,) = told(application)
        attempt(delivery, Receiving(egress.AddressRefused("expected a public address")), NOW)
        assert (delivery.state, delivery.answer_status) == ("waiting", None)
        assert delivery.answer == "expected a public address"

    def test_what_is_not_due_is_not_sent(self, application, webhook):
        (delivery,) = told(application)
        nobody = Receiving()
        attempt(delivery, nobody, NOW - timedelta(seconds=1))
        assert (nobody.sent, webhooks.claim_due_deliveries(NOW)) == ([], [delivery.pk])

    def test_while_no_worker_is_there_each_is_announced_now_and_then(self, application, webhook):
        (delivery,) = told(application)
        looks = [NOW + timedelta(seconds=10 * number) for number in range(31)]
        announced = [at - NOW for at in looks if webhooks.claim_due_deliveries(at)]
        assert announced == [timedelta(0), webhooks.QUEUE_LEASE]
        attempt(delivery, Receiving(500), looks[-1])
        due = delivery.next_attempt_at
        assert webhooks.claim_due_deliveries(due) == [delivery.pk], "what is to be tried again is not held by a claim"

    def test_what_is_disabled_is_told_nothing_until_it_is_changed(self, application, webhook):
        (delivery,) = told(application)
        webhooks.disable_webhook(webhook=webhook, reason="moving house", actor="ada", now=NOW)
        with pytest.raises(errors.WebhookDisabled):
            webhooks.disable_webhook(webhook=webhook, reason="again", actor="ada", now=NOW)
        assert told(application, "release 2") == []
        attempt(delivery, Receiving(), NOW)
        assert (delivery.state, delivery.answer) == ("failed", "moving house")
        entry = AuditEntry.objects.first()
        assert (entry.verb, entry.actor, entry.reason) == ("disable_webhook", "ada", "moving house")
        webhooks.change_webhook(webhook=webhook, url=URL, event_types=[], actor="ada", now=NOW)
        assert len(told(application, "release 3")) == 1

    def test_the_headers_of_the_last_attempt_can_be_shown(self, application, webhook):
        (delivery,) = told(application)
        assert webhooks.headers_sent(delivery) == {}
        receiving = Receiving(200)
        attempt(delivery, receiving, NOW)
        ((_, headers, _),) = receiving.sent
        assert webhooks.headers_sent(delivery) == headers
        webhooks.rotate_secret(webhook=delivery.webhook, actor="ada", now=NOW)
        shown = webhooks.headers_sent(delivery)
        assert shown == {name: value for name, value in headers.items() if name != "webhook-signature"}

    def test_a_sender_that_was_killed_is_taken_over_with_the_same_id(self, application, webhook):
        (delivery,) = told(application)
        killed = Receiving(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            attempt(delivery, killed, NOW)
        assert webhooks.claim_due_deliveries(NOW + timedelta(seconds=59)) == []
        second = Receiving(204)
        attempt(delivery, second, NOW + timedelta(seconds=60))
        assert second.sent[0][1]["webhook-id"] == killed.sent[0][1]["webhook-id"] == str(delivery.message_id)
        assert delivery.state == "delivered"

    def test_gone_ends_it(self, application, webhook):
        (delivery,) = told(application)
        attempt(delivery, Receiving(410), NOW)
        webhook.refresh_from_db()
        assert (delivery.state, webhook.disabled_reason) == ("failed", "it answered 410: gone")
        assert told(application, "release 2") == []
        with pytest.raises(errors.WebhookDisabled):
            webhooks.redeliver(delivery=WebhookDelivery.objects.get(), actor="ada", now=NOW)
        webhooks.change_webhook(webhook=webhook, url=URL, event_types=[], actor="ada", now=NOW)
        assert len(told(application, "release 3")) == 1

    def test_redelivery_sends_the_same_bytes_under_the_same_id(self, application, webhook):
        (delivery,) = told(application)
        receiving = Receiving(200, 200)
        attempt(delivery, receiving, NOW)
        webhooks.redeliver(delivery=delivery, actor="ada", now=NOW + timedelta(hours=1))
        attempt(delivery, receiving, NOW + timedelta(hours=1))
        (_, first, text), (_, second, again) = receiving.sent
        assert (first["webhook-id"], text) == (second["webhook-id"], again)
        assert first["webhook-timestamp"] != second["webhook-timestamp"]

    def test_for_a_day_after_a_rotation_both_secrets_sign(self, application, webhook):
        (delivery,) = told(application)
        now = datetime.now(UTC)
        new = webhooks.rotate_secret(webhook=webhook, actor="ada", now=now - timedelta(hours=23))
        receiving = Receiving(500, 200)
        attempt(delivery, receiving, now)
        for secret in (webhook.shown_secret, new):
            Receiver(secret).verify(receiving.sent[0][2], receiving.sent[0][1])
        attempt(delivery, receiving, now + timedelta(hours=1))
        assert " " not in receiving.sent[1][1]["webhook-signature"]

    def test_of_two_rotations_at_once_the_second_follows_the_first(self, application, webhook):
        (delivery,) = told(application)
        seen, now = Webhook.objects.get(pk=webhook.pk), datetime.now(UTC)
        first = webhooks.rotate_secret(webhook=webhook, actor="ada", now=now)
        second = webhooks.rotate_secret(webhook=seen, actor="grace", now=now)
        receiving = Receiving(200)
        attempt(delivery, receiving, now)
        for secret in (first, second):
            Receiver(secret).verify(receiving.sent[0][2], receiving.sent[0][1])

    @pytest.mark.parametrize("meanwhile", ["deleted", "moved", "sent again"])
    def test_what_is_done_during_an_attempt_is_not_undone_by_its_answer(self, application, webhook, meanwhile):
        (delivery,) = told(application)
        said = {"actor": "ada", "now": NOW}

        def answer(*_: Any, **__: Any) -> egress.Answer:
            if meanwhile == "deleted":
                webhooks.delete_webhook(webhook=webhook, **said)
            elif meanwhile == "moved":
                webhooks.change_webhook(webhook=webhook, url=f"{URL}/new", event_types=[], **said)
            else:
                webhooks.redeliver(delivery=WebhookDelivery.objects.get(), **said)
            return egress.Answer(410, "gone") if meanwhile != "sent again" else egress.Answer(200, "thanks")

        webhooks.attempt(delivery_id=delivery.pk, clock=lambda: NOW, send=answer)
        if meanwhile == "moved":
            assert Webhook.objects.get().disabled_reason == "", "it was the former address that is gone"
        if meanwhile == "sent again":
            assert WebhookDelivery.objects.due(NOW).get() == delivery

    def test_the_log_holds_no_address_that_lets_anybody_in(self, application):
        """Viewers read it; of webhooks only administrators do."""
        secret_url = "https://hooks.example.com/services/T0/B0/s3cret?token=s3cret"
        made, _ = webhooks.create_webhook(
            application=application, name="chat", url=URL, event_types=[], actor="ada", now=NOW
        )
        webhooks.change_webhook(webhook=made, url=secret_url, event_types=[], actor="ada", now=NOW)
        webhooks.delete_webhook(webhook=made, actor="ada", now=NOW)
        log = list(AuditEntry.objects.filter(verb__endswith="_webhook").values("before", "after"))
        assert "s3cret" not in json.dumps(log)
        assert log[1]["before"]["url_sha256"] != log[1]["after"]["url_sha256"]
        assert log[1]["after"]["host"] == "hooks.example.com"

    def test_neither_rows_nor_the_log_hold_a_secret(self, webhook, settings):
        bare = webhook.shown_secret.removeprefix("whsec_")
        log = json.dumps(list(AuditEntry.objects.values()), default=str)
        webhook.refresh_from_db()
        assert bare not in log
        assert bare not in webhook.secret
        assert sealing.unseal(webhook.secret) == webhook.shown_secret
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
        assert sealing.unseal(webhook.secret) == webhook.shown_secret
        settings.SECRET_KEY_FALLBACKS = []
        with pytest.raises(errors.SecretUnreadable):
            sealing.unseal(webhook.secret)

    def test_an_unreadable_secret_delays_what_is_told(self, application, webhook, settings):
        (delivery,) = told(application)
        settings.SECRET_KEY = "another"
        attempt(delivery, Receiving(), NOW)
        assert (delivery.state, delivery.attempts) == ("waiting", 1)
        assert "secret key" in delivery.answer

    def test_old_deliveries_are_forgotten_and_waiting_ones_are_not(self, application, webhook):
        (done,) = told(application)
        attempt(done, Receiving(200), NOW)
        told(application, "release 2")
        assert webhooks.forget_deliveries(NOW + timedelta(days=30)) == 0
        assert webhooks.forget_deliveries(NOW + timedelta(days=31)) == 1
        assert [delivery.subject for delivery in webhook.deliveries.all()] == ["release 2"]

    @pytest.mark.parametrize(
        ("wanted", "error"),
        [
            ({"name": "ops"}, errors.NameTaken),
            ({"url": "http://10.0.0.1/"}, errors.WebhookRefused),
            ({"event_types": ["release.publish"]}, errors.WebhookRefused),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_is_kept(self, application, webhook, wanted, error):
        given = {"name": "new", "url": URL, "event_types": [], **wanted}
        with pytest.raises(error, match="expected"):
            webhooks.create_webhook(application=application, actor="ada", now=NOW, **given)
        assert application.webhooks.count() == 1
