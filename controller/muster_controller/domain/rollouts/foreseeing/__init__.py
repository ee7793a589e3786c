"""What a plan would do, before anything is done."""
