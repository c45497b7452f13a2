"""A container engine: what is asked of one (`protocol`), and Docker's (`docker`)."""
