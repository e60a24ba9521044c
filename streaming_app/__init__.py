"""The streaming application: answers price requests, and measures the answers by the prices set later."""
