"""Tasks: a pool and its connections for asyncio, and the threads that do what would block an event loop.

a borrow        `borrowing` is what is awaited; `lending` has the usual ways, `aio.AsyncConnectionPool` the others
a wait          `waiter` is the place in the pool's queue; `clock` and `pending` are how its task sleeps and goes on
a statement     `cursor`, `connection`, `exchanges` (one after the other), `session` (bytes), `watched` (the socket);
                `turn` orders the tasks of one connection, `decoding` shares the loop's time between connections
a return        `returning`; `cleaner` where the session must be cleaned
a cancellation  `cutting`, and `worker`: the threads, and who cleans up after a call
a report        `tokens`: what a task is known by
a slip          `elsewhere`: a name that another object has is an error that says which
other names     `names`, `pool_names`, `compat`: those of aiomysql and asyncmy
"""
