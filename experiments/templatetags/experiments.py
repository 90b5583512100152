"""Figures of experiments as people read them."""

from django import template

from experiments import words

register = template.Library()
register.filter("experiment_state", words.state)
register.filter("basis_points", words.percent)


@register.filter
def apart(value: float | str | None) -> str:
    """A count, its thousands apart; what a template does not find is empty."""
    return words.number(None if value is None or isinstance(value, str) else round(value))


@register.filter
def share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.3g} %"


@register.filter
def figure(value: float | None) -> str:
    """Three figures."""
    return "–" if value is None else f"{value:.3g}"


@register.filter
def milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} ms"


@register.filter
def spaced(name: str) -> str:
    return name.replace("_", " ")
