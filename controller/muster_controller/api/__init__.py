"""REST: routes that call ``service`` and say nothing of their own."""
