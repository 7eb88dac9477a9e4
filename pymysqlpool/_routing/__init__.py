"""Which of several hosts? The decision, and how a borrow follows it. Reaches pools by their public methods only."""
