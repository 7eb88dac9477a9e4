"""The client/server protocol without I/O: bytes in, replies out.

`source.Source` holds what was received, `reply.reply` reads one reply out of it and reports how much more it needs.
A driver receives and sends: over a blocking socket (`_driver.receive`), or on an event loop. Owns: the format of
replies. Never: touches a socket, a lock, a clock, a connection, or decides what a reply means for the session.
"""
