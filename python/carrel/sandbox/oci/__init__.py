"""The `oci` runner: containers by an OCI runtime (crun, runc, runsc), in namespaces that the launcher makes first."""
