"""Bytes and PyMySQL: the protocol, one session with the server, its set-up and reset. Knows nothing of pools."""
