"""The pool's core: which borrower may have which connection, and the pool's one lock.

a borrow     `first_step` lends an idle connection without the lock; `checkout` waits, connects and checks;
             `for_loops` has the parts that an event loop runs itself, `for_clusters` a borrow from several hosts
a wait       `waiter` is the place in the queue; `while_waiting` is what the waiting caller looks for
a return     `checkin`; the usual ones are in `idle_lease` and, for tasks, in `quick_return`
a refusal    `refusal_news`: of a statement, by a server that is not the one for the work
a discard    `reuse.py` decides it and names the reason; `PoolCore._discard` in `core` carries it out
the lock     `core`, and nowhere else; what is done under it is in `ledger`
idle time    `maintenance` expires, shrinks, keeps alive, reclaims
a report     `diagnostics` (numbers, holders, errors), `counters`, `log_fields`
"""
