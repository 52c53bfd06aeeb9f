"""Results for people: tables and progress in the terminal."""
