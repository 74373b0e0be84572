"""The program under load, change, reconnects and faults for a long time: ``make soak``."""
