"""Who may have a connection: books, queue, checkout, checkin, lease, maintenance, and the only lock."""
