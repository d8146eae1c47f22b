"""Says which Python this is and what it sees of its root."""

import os
import sys

print("Python", sys.version.split()[0], "on", sys.platform)
print(os.listdir("/"))
