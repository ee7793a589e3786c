"""Getting a version onto the device and answering: the update machine and what carries out its actions."""
