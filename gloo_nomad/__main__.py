"""The command ``gloo-nomad``."""

from gloo_nomad.cli.main import main

if __name__ == "__main__":
    main()
