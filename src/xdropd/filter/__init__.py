"""The filter: the lists, programs and interfaces in the kernel, and what the service manager keeps of them."""
