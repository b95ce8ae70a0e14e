"""The queue of jobs, one worker thread for the process, and what it runs: captures, experiments, timings, exports."""
