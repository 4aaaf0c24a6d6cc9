"""What servers are asked, and how their replies are read. Nothing here does input or output."""
