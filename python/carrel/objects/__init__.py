"""Where backups go: S3 and directories, behind one protocol."""
