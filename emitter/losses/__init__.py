"""What training minimises: losses, detection terms, weightings, scale warm-up.

Every module below is imported with the package, so that a new file's settings are known to the configuration.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
