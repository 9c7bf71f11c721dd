"""The engine: a planner that chooses, plans that are called, algorithms that compute, and the runtime they run on."""
