"""What a converter's exception says, in one sentence: the operation, layer or shape at fault, without its stack."""

import re

MOST_CHARACTERS = 600


def quantiser_refusal(error: Exception) -> str:
    return f"expected a model ai-edge-quantizer takes; got {first_sentence(str(error)) or type(error).__name__}"


def first_sentence(text: str) -> str:
    """The first line that says something, on one line, without runs of spaces."""
    lines = (re.sub(r"\s+", " ", line).strip() for line in text.splitlines())
    return next((line for line in lines if line), "")[:MOST_CHARACTERS]
