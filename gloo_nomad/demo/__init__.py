"""Real servers on this machine for demos and tests: started, waited for, stopped."""
