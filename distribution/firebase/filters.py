"""The filter of `models.list`: `display_name : prefix_* AND state.published = true OR tags: a`. Pure.

| term                                     | true for                                     |
|------------------------------------------|----------------------------------------------|
| `display_name = x`, `displayName = x`    | the model of this name                       |
| `display_name : prefix_*`                | names that begin so (`*` stands at the end)  |
| `tags : a`                               | models with the tag                          |
| `state.published = true`                 | published models; `= false` the others       |

`AND` binds closer than `OR`; a value may stand in double quotes; there are no brackets.
"""

import re
from dataclasses import dataclass

MOST_CHARACTERS = 2000
_TERM = re.compile(r'\s*([A-Za-z_.]+)\s*(=|:)\s*("[A-Za-z0-9_*-]*"|[A-Za-z0-9_*-]+)\s*')
_WORD = re.compile(r"(AND|OR)\b")
_FIELDS = {"displayName": "display_name"}
_OPERATORS = {"display_name": "=:", "tags": ":", "state.published": "=:"}


class FilterError(ValueError):
    """The text is no filter."""


@dataclass(frozen=True)
class Term:
    """`is_prefix`: the value is only how a display name begins."""

    field: str
    value: str
    is_prefix: bool = False

    def holds(self, display_name: str, tags: list[str], *, published: bool) -> bool:
        if self.field == "tags":
            return self.value in tags
        if self.field == "state.published":
            return published == (self.value == "true")
        return display_name.startswith(self.value) if self.is_prefix else display_name == self.value


@dataclass(frozen=True)
class Filter:
    """True when all terms of any group hold. An empty text holds for every model."""

    groups: tuple[tuple[Term, ...], ...]

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Raises FilterError.

        >>> Filter.parse("display_name = a OR tags: b").holds("x", ["b"], published=False)
        True
        """
        if len(text) > MOST_CHARACTERS:
            raise FilterError(f"filter: expected at most {MOST_CHARACTERS} characters, got {len(text)}")
        if not text.strip():
            return cls(((),))
        groups: list[list[Term]] = [[]]
        at = 0
        while True:
            found = _TERM.match(text, at)
            if found is None:
                raise FilterError(
                    f"filter: expected <field> <= or :> <value> at character {at}, got {text[at:][:40]!r}"
                )
            groups[-1].append(_term(*found.groups()))
            at = found.end()
            if at == len(text):
                return cls(tuple(map(tuple, groups)))
            joined = _WORD.match(text, at)
            if joined is None:
                raise FilterError(f"filter: expected AND or OR at character {at}, got {text[at:][:40]!r}")
            at = joined.end()
            if joined[1] == "OR":
                groups.append([])

    def holds(self, display_name: str, tags: list[str], *, published: bool) -> bool:
        return any(all(term.holds(display_name, tags, published=published) for term in group) for group in self.groups)


def _term(field: str, operator: str, value: str) -> Term:
    field, value = _FIELDS.get(field, field), value.strip('"')
    if operator not in _OPERATORS.get(field, ""):
        known = ", ".join(f"{name} {' or '.join(signs)}" for name, signs in _OPERATORS.items())
        raise FilterError(f"filter: expected one of {known}, got {field} {operator}")
    if field == "state.published" and value not in {"true", "false"}:
        raise FilterError(f"filter: expected state.published = true or false, got {value!r}")
    is_prefix = field == "display_name" and operator == ":" and value.endswith("*")
    value = value.removesuffix("*") if is_prefix else value
    if "*" in value:
        raise FilterError(f"filter: expected * at the end of display_name : <prefix>* alone, got {value!r}")
    return Term(field, value, is_prefix)
