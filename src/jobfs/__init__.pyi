from jobfs import errors as errors
from jobfs.api.studio import JobSettings as JobSettings
from jobfs.model import Permission as Permission
from jobfs.workspace.awaiting import AsyncWorkspace as AsyncWorkspace
from jobfs.workspace.blocking import Workspace as Workspace
from jobfs.workspace.copies import AsyncLocalCopy as AsyncLocalCopy
from jobfs.workspace.local import LocalCopy as LocalCopy

__version__: str
