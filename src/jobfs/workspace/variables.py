"""The names of the environment variables that say which server, and with which key."""

URL = "JOBFS_URL"
API_KEY = "JOBFS_API_KEY"
SECOND_API_KEY = "PERSTACK_API_KEY"
SYSTEM_KEY = "JOBFS_SYSTEM_KEY"
PROFILE = "JOBFS_PROFILE"
CONFIG_DIRECTORY = "JOBFS_CONFIG_DIR"
SECRET_VARIABLES = (API_KEY, SECOND_API_KEY, SYSTEM_KEY)
"""What no child process gets from us."""
