"""Run a command of the control plane; the console script `controlplane` is the same."""

from controlplane.cli import main

if __name__ == "__main__":
    main()
