"""The client/server protocol without I/O: bytes in, replies out.

`source.Source` holds what was received, `reply.reply` reads one reply out of it and says how much more it needs. What
receives and sends drives it: a blocking socket (`_driver.receive`), or an event loop. Never: touches a socket, a lock,
a clock, a connection, or decides what a reply means for the session.
"""
