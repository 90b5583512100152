"""How the invitation of a test device is handed over: an address, and a picture of it for a camera."""

import segno


def enrolment_url(base: str, token: str) -> str:
    """What the QR code says. The token stands behind the #, which no server logs; the app posts it in a body."""
    return f"{base.rstrip('/')}/api/v1/enrolments#{token}"


def qr_svg(text: str) -> str:
    return str(segno.make(text, error="m").svg_inline(scale=4, border=2))
