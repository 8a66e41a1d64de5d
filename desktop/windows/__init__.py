"""Windows beside the main one; none of them holds anything up."""
