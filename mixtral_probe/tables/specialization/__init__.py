"""What experts have to do with topics, words and places."""
