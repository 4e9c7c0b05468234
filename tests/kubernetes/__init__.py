"""A Kubernetes cluster on loopback: a real control plane, and stand-ins for nodes and AWS."""
