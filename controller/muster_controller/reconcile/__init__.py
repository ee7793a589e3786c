"""The loop that decides: drift, rollouts and desired states, again and again."""
