"""The AWS platform: network, encryption keys, database, queue, cluster and image registry.

Nothing of the local stack imports this package: the AWS SDK alone takes a second to load.
"""
