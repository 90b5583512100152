"""What a file is and holds, found out by reading it as data. Nothing of it is ever executed. Pure."""

from registry.inspection.errors import InspectionError
from registry.inspection.evaluation_set import inspect_evaluation_set
from registry.inspection.inspect import inspect_source
from registry.inspection.source import SourceInspection, TensorInfo

__all__ = ["InspectionError", "SourceInspection", "TensorInfo", "inspect_evaluation_set", "inspect_source"]
