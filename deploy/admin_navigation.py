"""The admin's side bar."""

from functools import partial
from typing import Any

from django.urls import reverse_lazy


def _page(title: str, icon: str, name: str, *, permission: str = "member_of") -> dict[str, Any]:
    link = reverse_lazy(f"admin:{name}")
    return {
        "title": title,
        "icon": icon,
        "link": link,
        "permission": f"registry.admin.access.{permission}",
        "active": partial(_is_open, link),
    }


def _is_open(link: object, request: Any) -> bool:
    """The page itself, or one below it that has no line of its own."""
    here, links = request.path, [str(item["link"]) for group in NAVIGATION for item in group["items"]]
    return str(link) == max((one for one in links if here.startswith(one)), key=len, default="")


NAVIGATION: list[dict[str, Any]] = [
    {"items": [_page("Home", "home", "index")]},
    {
        "title": "Registry",
        "items": [
            _page("Models", "deployed_code", "registry_registeredmodel_changelist"),
            _page("Versions", "history", "registry_modelversion_changelist"),
            _page("Upload", "upload", "registry_modelversion_add", permission="may_edit"),
            _page("Device classes", "devices", "registry_deviceclass_changelist"),
            _page("Who would match", "person_search", "registry_deviceclass_match"),
        ],
    },
    {
        "title": "Distribution",
        "items": [
            _page("Releases", "rocket_launch", "distribution_release_changelist"),
            _page("Publish", "publish", "distribution_release_add", permission="may_release"),
            _page("Requests", "approval", "distribution_releaserequest_changelist"),
            _page("Roll back", "undo", "distribution_release_roll_back", permission="may_release"),
            _page("Why this answer", "help_center", "distribution_release_explain"),
            _page("Kill switches", "emergency_home", "distribution_killswitch_changelist"),
            _page("Floors", "stairs", "distribution_deliveryrules_changelist"),
            _page("Pins", "push_pin", "distribution_pin_changelist"),
            _page("Test devices", "phonelink_setup", "distribution_testdevice_changelist"),
            _page("Embedded models", "inventory_2", "distribution_embeddedmodel_changelist"),
            _page("Patches", "difference", "distribution_patch_changelist"),
            _page("Revisions", "layers", "distribution_revision_changelist"),
            _page("Signed documents", "verified", "distribution_signeddocument_changelist"),
            _page("Trust", "key", "distribution_trustrole_changelist"),
            _page("Protection", "lock", "distribution_modelprotection_changelist"),
            _page("Key calls", "vpn_key", "distribution_keycall_changelist"),
        ],
    },
    {
        "title": "Experiments",
        "items": [
            _page("Experiments", "experiment", "experiments_experiment_changelist"),
            _page("Design", "edit_note", "experiments_experiment_add", permission="may_edit"),
            _page("Layers", "stacked_bar_chart", "experiments_layer_changelist"),
            _page("Holdbacks", "back_hand", "experiments_holdback_changelist"),
        ],
    },
    {
        "title": "Administration",
        "items": [
            _page("Audit log", "receipt_long", "registry_auditentry_changelist"),
            _page("Applications", "apps", "registry_application_changelist"),
            _page("Channels", "account_tree", "registry_channel_changelist"),
            _page("Approvals", "how_to_reg", "distribution_channelsettings_changelist"),
            _page("Webhooks", "webhook", "registry_webhook_changelist", permission="may_administer"),
            _page("API tokens", "password", "registry_apitoken_changelist"),
            _page("Users", "group", "auth_user_changelist", permission="is_superuser"),
            _page("Groups", "groups", "auth_group_changelist", permission="is_superuser"),
        ],
    },
]
