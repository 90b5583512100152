"""Batch actions of the admin write without a page of their own: each has a line here that says who gets it.

The pages themselves have their table in tests/deploy/test_admin.py.
"""

import pytest
from django.contrib import admin
from django.test import RequestFactory

from registry.models import Role
from registry.services import grant
from tests import factories
from tests.factories import NOW

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("services", "own_store")]
# (model, action) -> the lowest role that is offered it.
OFFERED: dict[tuple[str, str], Role] = {}
SUPERUSERS = {("User", "delete_selected"), ("Group", "delete_selected")}


def actions_for(user):
    request = RequestFactory().get("/admin/")
    request.user = user
    return {
        (model.__name__, action) for model, page in admin.site._registry.items() for action in page.get_actions(request)
    }


@pytest.mark.parametrize("role", Role, ids=lambda role: role.label)
def test_a_role_is_offered_the_actions_of_the_table_and_no_others(role):
    user = factories.user("somebody")
    user.is_staff = True
    user.save()
    grant(application=factories.application(), user=user, role=role, actor="tests", now=NOW)
    assert actions_for(user) == {key for key, least in OFFERED.items() if role >= least}


def test_a_superuser_is_offered_all_of_them():
    assert actions_for(factories.user("root", superuser=True)) == set(OFFERED) | SUPERUSERS
