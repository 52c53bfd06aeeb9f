"""Run folders: manifests, one writer at a time, staging and publication."""
