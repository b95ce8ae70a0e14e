"""What tests share: models, traces, runs of the command line, the dashboard and a browser."""
