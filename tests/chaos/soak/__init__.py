"""An hour of mixed load with a fault each minute: what the service takes of the machine stays what it was."""
