class DevError(Exception):
    """Something whoever runs `make run` must act on; the message is all they see."""
