"""The streaming application: answers price requests and measures the answers, knows a model only by its signature."""
