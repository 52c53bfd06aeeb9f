"""What is shipped to a device: graphs, references, the runtime, and hashes of all of it."""
