"""The engine: a planner that chooses, algorithms that compute, and the runtime they run on."""
