"""The commands of ``qgen``, a module for each kind of work; each imports what it needs when it is called."""
