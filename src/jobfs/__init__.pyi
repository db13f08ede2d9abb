from jobfs.api.studio import JobSettings as JobSettings
from jobfs.model import Permission as Permission
from jobfs.workspace.awaiting import AsyncWorkspace as AsyncWorkspace
from jobfs.workspace.blocking import Workspace as Workspace

__version__: str
