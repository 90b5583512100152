"""Every address of the REST API and the methods it answers, read from the URL resolver."""

import re

from django.urls import URLPattern, get_resolver

EXAMPLES = {
    "application": "demo",
    "channel": "production",
    "content_key": "0" * 32,
    "delivery": "1",
    "device_class": "everything-else",
    "experiment": "faster",
    "layer": "1",
    "model": "digits",
    "number": "1",
    "other": "1",
    "pin": "1",
    "profile": "phones",
    "recipe": "tflite-float32",
    "release": "1",
    "release_request": "1",
    "reproduction": "1",
    "revision": "1",
    "test_device": "1",
    "token": "1",
    "unit_key": "0" * 64,
    "upload": "1",
    "user": "member",
    "variant": "tflite-float32",
    "webhook": "ops",
}


def patterns(found=None, prefix=""):
    for pattern in found or get_resolver("deploy.urls").url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield path, pattern.callback
        else:
            yield from patterns(pattern.url_patterns, path)


def endpoints():
    """("GET", "applications/{application}") for each method that a view below /api/v1 has."""
    for path, callback in patterns():
        if path.startswith("api/v1/"):
            view = callback.view_class
            named = re.sub(r"<\w+:(\w+)>", r"{\1}", path.removeprefix("api/v1/"))
            for method in ("get", "post", "put", "patch", "delete"):
                if hasattr(view, method):
                    yield method.upper(), named


def filled(path):
    return "/api/v1/" + path.format(**EXAMPLES)
