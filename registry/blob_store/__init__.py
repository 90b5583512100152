"""Content-addressed, write-once bytes, over Django's storage interface: on local disk or on S3.

Layout below the storage root:
    staging/<uuid>                      an upload on its way; removed when it is kept or refused
    sha256/<first two>/<digest>         private: sources, evaluation sets, traces, variants
    tree/<application>/…                public: the signed tree, the only thing the device plane reads

Nothing here is ever overwritten but the tree's pointers, `timestamp.json` and lists of patches, and these at once.
"""

from registry.blob_store.keys import blob_key
from registry.blob_store.local import LocalBlobStorage
from registry.blob_store.store import LEFTOVER_AGE, BlobStore, StagedBlob, blob_store

__all__ = ["LEFTOVER_AGE", "BlobStore", "LocalBlobStorage", "StagedBlob", "blob_key", "blob_store"]
