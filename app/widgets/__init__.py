"""The parts that pages share: charts with their tables, cards of numbers, choices, coloured text, the list of jobs."""
