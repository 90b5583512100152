"""The truth table of the docstring, read and compared with the rules, both ways."""

import re

import pytest

from experiments import lifecycle
from experiments.lifecycle import ROLES, TRANSITIONS, State, Verb, WrongState, require, verbs_of

# verb -> (states it may be said in, states it may lead to, least role): by hand, from the design.
TABLE = {
    "edit": ("draft in_review approved scheduled", "draft", "editor"),
    "submit": ("draft", "in_review", "editor"),
    "approve": ("in_review running paused halted", "in_review approved running paused halted", "releaser"),
    "reject": ("in_review approved scheduled", "draft", "releaser"),
    "start": ("approved scheduled", "scheduled running", "releaser"),
    "pause": ("running", "paused", "releaser"),
    "resume": ("running paused halted", "running halted", "releaser"),
    "advance": ("running", "running completed", "releaser"),
    "approve_step": ("running paused", "running paused", "releaser"),
    "ramp": ("running paused", "running paused", "releaser"),
    "supersede": ("running paused halted", "running paused halted", "releaser"),
    "rerandomise": ("running paused", "running paused", "releaser"),
    "halt": ("running paused", "running paused halted", "releaser"),
    "rollback": ("running paused halted", "rolled_back", "releaser"),
    "complete": ("running paused", "completed stopped", "releaser"),
    "archive": ("draft rolled_back completed stopped", "archived", "editor"),
    "follow": ("running paused halted", "running paused halted completed", "releaser"),
}


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("state", list(State))
def test_every_verb_in_every_state(verb, state):
    sources, results, _ = TABLE[verb]
    if state in sources.split():
        assert require(verb, state) <= set(results.split())
    else:
        with pytest.raises(WrongState, match=f"expected a state to {verb} from .*, got {state}") as refused:
            require(verb, state)
        assert set(re.search(r"\((.*)\)", str(refused.value))[1].split(", ")) == set(sources.split())


def test_the_table_is_whole():
    assert set(TABLE) == set(Verb)
    for verb, (_, results, role) in TABLE.items():
        led_to = {state for (said, _), states in TRANSITIONS.items() if said == verb for state in states}
        assert led_to == set(results.split())
        assert ROLES[verb] == role


def test_the_docstring_says_the_same():
    told = {}
    for row in re.findall(r"^\| (\w+) +\| ([\w, ]+?) +\| [^|]+\| (\w+) +\|", lifecycle.__doc__, re.MULTILINE):
        if row[0] != "verb":
            told.setdefault(row[0], [set(), set()])
            told[row[0]][0] |= set(row[1].split(", "))
            told[row[0]][1].add(row[2])
    assert told == {verb: [set(sources.split()), {role}] for verb, (sources, _, role) in TABLE.items()}


def test_stopping_is_possible_in_every_state_that_devices_are_told_of():
    for state in lifecycle.SERVED:
        assert Verb.ROLLBACK in verbs_of(state)
    assert {Verb.HALT, Verb.ROLLBACK} == lifecycle.OF_ONE_PERSON
    assert not lifecycle.OF_ONE_PERSON & lifecycle.OF_ANOTHER_PERSON


@pytest.mark.parametrize("state", list(State))
def test_people_are_offered_what_the_table_allows_but_not_what_comes_of_a_release(state):
    assert verbs_of(state) == [verb for verb in TABLE if state in TABLE[verb][0].split() and verb != "follow"]
