"""What several benchmarks share; tests take their S3 server, its proxy and background work from here too."""
