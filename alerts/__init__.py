"""What watches the platform: Prometheus rules, the routing of alerts, runbooks and drills."""
