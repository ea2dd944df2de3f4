"""From what a user asks for to the plan of a run: everything decided and loaded."""
