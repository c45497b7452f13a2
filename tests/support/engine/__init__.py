"""An engine without containers, behind the same Protocol as the real one."""
