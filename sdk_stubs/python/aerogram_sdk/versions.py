"""Dotted versions. Pure."""

_MOST_PARTS = 8
_MOST_DIGITS = 18


def compare_versions(a: str, b: str) -> int:
    """-1, 0 or 1 as `a` is older than, equal to or newer than `b`. Missing parts count as 0.

    >>> compare_versions("2.9", "2.10"), compare_versions("2", "2.0.0"), compare_versions("14.0.3-beta", "14.0.2")
    (-1, 0, 1)
    """
    left, right = _numbers(a), _numbers(b)
    return (left > right) - (left < right)


def older(version: str, minimum: str) -> bool:
    """Whether `version` is below `minimum`; an empty minimum admits all.

    >>> older("2.9", "2.10"), older("2", "2.0"), older("", "1"), older("1", "")
    (True, False, True, False)
    """
    return compare_versions(version, minimum) < 0


def _numbers(version: str) -> list[int]:
    """The first eight parts, without zeros at the end; a part's digits end at its first other character."""
    numbers = [_leading_number(part) for part in version.split(".")[:_MOST_PARTS]]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


def _leading_number(part: str) -> int:
    digits = ""
    for character in part[:_MOST_DIGITS]:
        if not "0" <= character <= "9":
            break
        digits += character
    return int(digits or "0")
