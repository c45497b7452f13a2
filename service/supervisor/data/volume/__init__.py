"""A volume on the host: opened beneath what a hostile job may change, looked through, remembered, removed."""
