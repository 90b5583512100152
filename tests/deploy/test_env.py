from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy import env

NAME = "AEROGRAM_EXAMPLE"


def give(monkeypatch, value):
    if value is None:
        monkeypatch.delenv(NAME, raising=False)
    else:
        monkeypatch.setenv(NAME, value)


@pytest.mark.parametrize("value", [None, "", "   "])
@pytest.mark.parametrize(
    "read",
    [
        lambda: env.text(NAME),
        lambda: env.integer(NAME),
        lambda: env.seconds(NAME),
        lambda: env.url(NAME, schemes=["https"]),
        lambda: env.items(NAME),
        lambda: env.folder(NAME),
        lambda: env.flag(NAME, default=env.REQUIRED),
    ],
)
def test_a_required_variable_that_is_absent_or_empty_is_named(monkeypatch, read, value):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError, match=rf"^{NAME}: expected .+, got nothing \(the variable is not set\)$"):
        read()


@pytest.mark.parametrize("value", [None, ""])
def test_defaults_stand_in_for_absent_and_empty(monkeypatch, value):
    give(monkeypatch, value)
    assert env.text(NAME, "x") == "x"
    assert env.integer(NAME, 3) == 3
    assert env.seconds(NAME, 60) == 60
    assert env.url(NAME, "https://a/", schemes=["https"]) == "https://a/"
    assert env.url(NAME, None, schemes=["https"]) is None
    assert env.items(NAME, ["a"]) == ["a"]
    assert env.folder(NAME, Path("/a")) == Path("/a")
    assert env.flag(NAME) is False
    assert env.flag(NAME, default=True) is True


@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "On", " on "])
def test_true(monkeypatch, value):
    give(monkeypatch, value)
    assert env.flag(NAME) is True


@pytest.mark.parametrize("value", ["0", "false", "No", "off"])
def test_false(monkeypatch, value):
    give(monkeypatch, value)
    assert env.flag(NAME, default=True) is False


@pytest.mark.parametrize("value", ["2", "maybe", "tru", "-1"])
def test_a_flag_refuses_what_is_neither(monkeypatch, value):
    give(monkeypatch, value)
    with pytest.raises(
        env.EnvError, match=rf"^{NAME}: expected one of 1/true/yes/on or 0/false/no/off, got '{value}'$"
    ):
        env.flag(NAME)


@given(st.integers(-(10**17), 10**17))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_integers_come_back_as_they_were_written(monkeypatch, number):
    give(monkeypatch, str(number))
    assert env.integer(NAME) == number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", " from 1 to 10"),
        ("11", " from 1 to 10"),
        ("1.5", " from 1 to 10"),
        ("ten", " from 1 to 10"),
        ("0x5", " from 1 to 10"),
        ("1_0", " from 1 to 10"),
        ("٣", " from 1 to 10"),
        ("9" * 5000, " from 1 to 10"),
    ],
)
def test_an_integer_out_of_bounds_or_no_integer(monkeypatch, value, expected):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError) as refused:
        env.integer(NAME, minimum=1, maximum=10)
    assert str(refused.value) == f"{NAME}: expected a whole number{expected}, got {value!r}"


@pytest.mark.parametrize(("value", "number"), [("1", 1), ("10", 10)])
def test_bounds_are_inclusive(monkeypatch, value, number):
    give(monkeypatch, value)
    assert env.integer(NAME, minimum=1, maximum=10) == number


@pytest.mark.parametrize(("value", "number"), [("90", 90), ("90s", 90), ("15m", 900), ("4h", 14_400), ("7d", 604_800)])
def test_seconds_take_units(monkeypatch, value, number):
    give(monkeypatch, value)
    assert env.seconds(NAME) == number


@pytest.mark.parametrize("value", ["-1", "1w", "1.5h", "h", "1 h", "2h"])
def test_seconds_refused(monkeypatch, value):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError, match=rf"^{NAME}: expected a whole number of seconds.* of at most 3600, got "):
        env.seconds(NAME, minimum=None, maximum=3600)


def test_parts_of_a_url(monkeypatch):
    give(monkeypatch, "postgresql://al%40ice:p%3Aw@db.example:5433/aero%20gram?sslmode=require&a=")
    url = env.url(NAME, schemes=["postgresql"])
    assert (url.scheme, url.host, url.port, url.path) == ("postgresql", "db.example", 5433, "/aero gram")
    assert (url.username, url.password) == ("al@ice", "p:w")
    assert url.query == {"sslmode": "require", "a": ""}
    assert url == "postgresql://al%40ice:p%3Aw@db.example:5433/aero%20gram?sslmode=require&a="


def test_a_url_of_a_unix_socket_has_no_host(monkeypatch):
    give(monkeypatch, "postgresql://aerogram@/aerogram?host=/run/pg&port=5432")
    url = env.url(NAME, schemes=["postgresql"])
    assert (url.host, url.port, url.path, url.query["host"]) == ("", None, "/aerogram", "/run/pg")


@pytest.mark.parametrize("value", ["http://a/", "example.org", "https:a", "//a/b", "file:///x"])
def test_a_url_of_another_scheme(monkeypatch, value):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError) as refused:
        env.url(NAME, schemes=["https", "rediss"])
    assert str(refused.value) == f"{NAME}: expected a URL starting with https:// or rediss://, got {value!r}"


@pytest.mark.parametrize("value", ["redis://h:99999/0", "redis://h:x/0", "redis://[::1/0"])
def test_a_url_that_cannot_be_parsed(monkeypatch, value):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError, match=rf"^{NAME}: expected a URL starting with redis://, got one that cannot be"):
        env.url(NAME, schemes=["redis"])


def test_a_refusal_does_not_print_the_password(monkeypatch):
    give(monkeypatch, "mysql://root:hunter2@db/x")
    with pytest.raises(env.EnvError) as refused:
        env.url(NAME, schemes=["postgresql"])
    assert "hunter2" not in str(refused.value)
    assert "mysql://root:***@db/x" in str(refused.value)


@pytest.mark.parametrize("value", ["file://relative/path", "file://host/abs"])
def test_a_file_url_needs_an_absolute_path(monkeypatch, value):
    give(monkeypatch, value)
    with pytest.raises(env.EnvError, match="expected file:// and an absolute path"):
        env.url(NAME, schemes=["file"])


def test_items_are_trimmed_and_empty_ones_dropped(monkeypatch):
    give(monkeypatch, " a, b ,,c,")
    assert env.items(NAME) == ["a", "b", "c"]


def test_the_default_list_is_not_shared(monkeypatch):
    give(monkeypatch, None)
    default = ["a"]
    env.items(NAME, default).append("b")
    assert default == ["a"]


def test_folder(monkeypatch, tmp_path):
    give(monkeypatch, str(tmp_path / "new"))
    assert env.folder(NAME) == tmp_path / "new"
    give(monkeypatch, "~/x")
    assert env.folder(NAME) == Path.home() / "x"


def test_a_relative_folder_is_refused(monkeypatch):
    give(monkeypatch, "var/keys")
    with pytest.raises(env.EnvError, match=rf"^{NAME}: expected an absolute path of a folder, got 'var/keys'$"):
        env.folder(NAME)


def test_a_folder_that_is_a_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "f").touch()
    give(monkeypatch, str(tmp_path / "f"))
    with pytest.raises(env.EnvError, match="which is not a folder"):
        env.folder(NAME)
