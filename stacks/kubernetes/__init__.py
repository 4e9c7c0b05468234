"""What runs in the cluster: namespaces, workers, database steps, scaling, network policies.

Objects are written as Kubernetes' own manifests (`dict[str, Any]`, its own key names), so that one
function serves Pulumi, the quick validation in the tests, and the Job that takes a step back.
"""
