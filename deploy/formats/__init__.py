"""How the admin writes dates and times: everywhere the same, and as the command line and REST do."""
