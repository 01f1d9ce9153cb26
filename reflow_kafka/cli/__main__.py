"""`python -m reflow_kafka.cli` is `reflow-kafka`."""

from reflow_kafka.cli.main import main

if __name__ == "__main__":
    main(prog_name="reflow-kafka")
