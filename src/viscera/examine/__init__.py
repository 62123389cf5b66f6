"""What a scan shows, and in what state it is: coverage, contrast, posture, noise, metal."""
