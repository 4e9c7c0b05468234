"""Obtaining the programs this project needs: pulumi, Prometheus, Alertmanager."""
