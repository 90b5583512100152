"""The composition root: settings, servers, the command line. Imports everything; no other app imports it."""
