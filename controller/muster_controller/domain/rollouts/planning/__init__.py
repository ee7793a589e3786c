"""What an operator asks for: the plan, its file and its forms, and who must agree."""
