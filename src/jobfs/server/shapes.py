"""How records look on the wire: field names and values of the answers (contract, sections 2 to 4).

Pure functions of records and switches. Timestamps carry milliseconds and ``Z``; ``nameChangedAt`` is never sent (T-12).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from jobfs.server.bodies import whole
from jobfs.server.ids import named_id
from jobfs.server.items import ItemRecord
from jobfs.server.jobs import JobRecord
from jobfs.server.registry import ExpertInfo, expert_version
from jobfs.server.switches import Switches
from jobfs.server.times import iso

Json = dict[str, Any]


def item_json(record: ItemRecord, application_space: str, switches: Switches) -> Json:
    """Return an item in the documented shape (contract, section 4)."""
    shape: Json = {
        "type": "workspaceItemDirectory" if record.is_directory else "workspaceItemFile",
        "id": record.id,
        "owner": record.owner,
        "lifecycle": "application" if record.space == application_space else "expertJob",
        "permission": record.permission,
        "path": record.shown,
        "createdAt": _created_at(record, switches),
        "updatedAt": _updated_at(record, switches),
    }
    if not record.is_directory:
        shape["key"] = record.key
        shape["mimeType"] = record.mime_type
        shape["size"] = record.size
    return shape


def later_item_json(record: ItemRecord, switches: Switches) -> Json:
    """Return an item as the later client wants it (contract I-1, I-2)."""
    shape: Json = {
        "id": record.id,
        "path": record.shown,
        "type": "directory" if record.is_directory else "file",
        "createdAt": _created_at(record, switches),
        "updatedAt": _updated_at(record, switches),
    }
    if not record.is_directory:
        shape["size"] = record.size
    return shape


def one_item_json(record: ItemRecord, application_space: str, switches: Switches) -> Json:
    """Return the ``data`` of an answer about one item, in the dialect that is switched on."""
    match switches.dialect:
        case "v1":
            return {"workspaceItem": item_json(record, application_space, switches)}
        case "later":
            return {"item": later_item_json(record, switches)}
        case "both":
            shape = item_json(record, application_space, switches)
            return {"workspaceItem": shape, "item": later_item_json(record, switches)}


def many_items_json(records: Sequence[ItemRecord], application_space: str, switches: Switches) -> list[Json]:
    """Return the rows of a list, in the dialect that is switched on."""
    if switches.dialect == "later":
        return [later_item_json(record, switches) for record in records]
    return [item_json(record, application_space, switches) for record in records]


def application_json(row: sqlite3.Row) -> Json:
    """Return an application with its organization.

    :param row: of the application, joined with ``organization_name`` and ``organization_created_ms``.
    """
    created, organization_created = iso(row["created_ms"]), iso(row["organization_created_ms"])
    return {
        "type": "application",
        "id": row["id"],
        "organizationId": row["organization_id"],
        "organization": {
            "type": "organization",
            "id": row["organization_id"],
            "createdAt": organization_created,
            "updatedAt": organization_created,
            "name": row["organization_name"],
            "status": "active",
            "organizationType": "personal",
            "maxApplications": 1,
            "maxApiKeys": 10,
            "maxStudioExperts": 100,
        },
        "createdAt": created,
        "updatedAt": created,
        "name": row["name"],
        "status": "active",
    }


def expert_digest_json(key: str, info: ExpertInfo, application: Mapping[str, Any]) -> Json:
    """Return an expert as checkpoints show it."""
    version = expert_version(key, info)
    return {
        "type": "expertDigest",
        "id": named_id(f"{info.name}@{version}"),
        "key": f"{info.name}@{version}",
        "name": info.name,
        "minRuntimeVersion": "v1.0",
        "description": info.description,
        "owner": {
            "name": application["organization"]["name"],
            "organizationId": application["organizationId"],
            "createdAt": application["organization"]["createdAt"],
        },
        "createdAt": application["createdAt"],
        "updatedAt": application["createdAt"],
        "version": version,
        "tags": [],
    }


def registry_expert_json(key: str, info: ExpertInfo, application: Mapping[str, Any]) -> Json:
    """Return an expert as jobs show it: the registry's shape with all fields (contract J-15)."""
    return expert_digest_json(key, info, application) | {
        "type": "registryExpert",
        "status": "available",
        "instruction": info.instruction,
        "skills": {},
        "delegates": [],
    }


def job_json(job: JobRecord, info: ExpertInfo, application: Mapping[str, Any]) -> Json:
    """Return a job with all its fields (contract J-14)."""
    shape: Json = {
        "type": "expertJob",
        "id": job.id,
        "organizationId": application["organizationId"],
        "createdAt": iso(job.created_ms),
        "updatedAt": iso(job.updated_ms),
        "status": job.status,
        "runtimeVersion": "v1.0",
        "expertKey": job.expert_key,
        "files": list(job.files),
        "expert": registry_expert_json(job.expert_key, info, application),
        "model": job.model,
        "temperature": whole(job.temperature),
        "maxSteps": whole(job.max_steps),
        "maxRetries": whole(job.max_retries),
        "currentStep": whole(job.current_step),
        "totalSteps": whole(job.total_steps),
        "totalDuration": job.duration_ms,
        "usage": {name: whole(count) for name, count in job.usage.items()},
        "applicationId": job.application_id,
    }
    if job.query is not None:
        shape["query"] = job.query
    if job.answers_tool is not None:
        shape["interactiveToolCallResult"] = job.answers_tool
    return shape


def _created_at(record: ItemRecord, switches: Switches) -> str:
    """A server that keeps whole seconds keeps them here too, else an item would be changed before it is made."""
    return iso(_whole_second(record.created_ms) if switches.updated_at == "coarse" else record.created_ms)


def _updated_at(record: ItemRecord, switches: Switches) -> str:
    match switches.updated_at:
        case "tick":
            return iso(record.updated_ms)
        case "coarse":
            return iso(_whole_second(record.updated_ms))
        case "frozen":
            return iso(record.created_ms)


def _whole_second(at_ms: int) -> int:
    return at_ms // 1000 * 1000
