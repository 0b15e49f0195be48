"""The one way out of a sandbox: a proxy at its own loopback, which judges, pins and passes on."""
