"""Telling other systems what happened, in the form of Standard Webhooks (https://www.standardwebhooks.com).

`messages` (pure) makes what is sent, `egress` decides where a message may go and takes it there, `services/webhooks.py`
keeps the deliveries: each is written in the transaction of what it tells of, so that none is told that did not happen
and none is forgotten.
"""
