"""Items to results by this process, by several, or by a Ray cluster; lost workers are replaced."""
