"""What a way to do the task costs, and when it pays: numbers in, dataclasses out."""
