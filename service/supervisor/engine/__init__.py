"""A container engine: what is asked of one (`protocol`), Docker's (`docker`), a simulated one (`fake`)."""
