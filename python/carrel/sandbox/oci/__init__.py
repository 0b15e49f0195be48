"""The `oci` runner: containers by an OCI runtime (crun, runc), in namespaces that the launcher makes first."""
