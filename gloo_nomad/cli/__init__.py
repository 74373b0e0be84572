"""The command line: ``gloo-nomad VERB``. One module below ``commands`` for each group of verbs."""
