"""Bytes and PyMySQL: the protocol, one session with the server, its set-up and reset. Knows nothing of pools.

a packet       `protocol.packets` (OK, ERR, EOF), `protocol.columns`, `protocol.rows`; their order: `protocol.reply`
an exchange    `exchange` has the lock and the marks of a command, `reading` its replies, `receive` the socket;
               `steps` is the same for a driver that must not block
a statement    `statements` reads from its text what it may change, by way of `lexer`
a session      `dial` and `login` make one, `recipe` sets it up, `reset` cleans it, `wire` is one between two leases;
               `lasting` is what a lease tells of it after its end
a cursor       `cursors`, `buffered`, `unbuffered`
"""
