"""Top-1 and top-5 of any number of artifacts over labelled images, by one worker or by many."""
