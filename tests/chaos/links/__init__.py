"""Each link of the service cut in each way: noticed, nothing missed, and whole again without hands."""
