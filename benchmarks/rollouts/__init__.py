"""The operating characteristics of rollouts: how often Muster, and what others do, is wrong and how late."""
