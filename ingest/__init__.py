"""Files to snapshots: readers, the chunker, duplicates, and the pipeline that joins them."""
