"""What benchmarks stand on: agents, peers and the kernel's accounts of them."""
