"""Grafana dashboards, built in code with Grafana's foundation SDK."""
