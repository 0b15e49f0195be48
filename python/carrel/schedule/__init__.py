"""Jobs that are run when their time comes: kept, claimed before they are run, and never run twice for one time."""
