"""Routing over several hosts: the decision which host serves, and its execution. Uses public methods of pools only.

the decision    `topology`, over the records of `endpoints`; `members` which hosts belong to the group
a borrow        `lending` executes the decision, `for_tasks` does so for asyncio; `queue` orders the callers
a server        `asking` asks it, `discovery` reads its answers, `following` whether it has a commit
the lock        `core`, with the state of the cluster
news            `monitor` (a thread per host, if asked for), `refusals` (a refused write)
the pools       `hosts` (what was configured), `making`, `totals` (their numbers, added up)
"""
