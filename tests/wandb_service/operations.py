"""Answers to the GraphQL operations, by their name. What is not here is unknown, and a test says so."""

import json
from collections.abc import Callable

from wandb_service.store import ENTITY, Json, Store, StoredRun, node_id

WHEN = "2026-01-01T00:00:00"
Operation = Callable[[Store, Json], Json]


def project_of(name: Json, entity: Json) -> Json:
    return {
        "__typename": "Project", "id": node_id("Project", name), "name": name, "entityName": entity or ENTITY,
        "entity": {"id": node_id("Entity", entity), "name": entity or ENTITY}, "createdAt": WHEN, "isBenchmark": False,
        "internalId": node_id("ProjectInternalId", name), "user": None, "description": None, "access": None,
        "views": None,
    }  # fmt: skip


def viewer(store: Store, asked: Json) -> Json:
    who = {"id": node_id("User", 1), "entity": ENTITY, "username": ENTITY, "name": ENTITY, "admin": False,
           "flags": "{}", "email": "nobody@example.invalid", "teams": {"edges": []}, "apiKeys": {"edges": []},
           "deletedAt": None}  # fmt: skip
    return {"viewer": who}


def server_info(store: Store, asked: Json) -> Json:
    versions = {"max_cli_version": "99.0.0", "min_cli_version": "0.1.0"}
    return {"serverInfo": {"cliVersionInfo": versions, "latestLocalVersionInfo": None, "frontendHost": store.base,
                           "features": []}}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ runs


def resume_status(store: Store, asked: Json) -> Json:
    run = store.find(asked)
    bucket = None
    if run is not None:
        tail = [json.dumps(run.history[-1])] if run.lines else []
        started = run.config.get("_wandb", {}).get("value", {}).get("t", 1)
        bucket = {
            "id": run.id, "name": run.name, "displayName": run.fields.get("displayName"), "notes": None,
            "tags": run.fields.get("tags", []), "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.lines), "logLineCount": 0,
            "eventsLineCount": 0, "historyTail": json.dumps(tail), "eventsTail": "[]",
            "wandbConfig": json.dumps({"t": started}),
        }  # fmt: skip
    return {"model": project_of(asked.get("project"), asked.get("entity")) | {"bucket": bucket}}


def upsert_run(store: Store, asked: Json) -> Json:
    if asked.get("name"):
        run = store.run(asked)
    else:
        run = next(run for run in store.runs.values() if run.id == asked["id"])
    run.num_upserts += 1
    run.complete = False
    run.fields |= {key: value for key, value in asked.items() if value is not None and key not in ("config", "id")}
    if asked.get("config"):
        run.config |= json.loads(asked["config"])
    if asked.get("summaryMetrics"):
        run.summary |= json.loads(asked["summaryMetrics"])
    bucket = {
        "id": run.id, "name": run.name, "displayName": run.fields.get("displayName") or run.name, "description": None,
        "config": json.dumps(run.config), "sweepName": None, "historyLineCount": len(run.lines),
        "project": project_of(run.project, run.entity),
    }  # fmt: skip
    return {"upsertBucket": {"inserted": run.num_upserts == 1, "bucket": bucket}}


def create_files(store: Store, asked: Json) -> Json:
    run = store.run(asked, "run")
    files = [{"name": name, "uploadUrl": store.upload_url(f"run/{run.name}/{name}")} for name in asked["files"]]
    return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}


def read_run(store: Store, asked: Json) -> Json:
    run = store.find(asked)
    return {"project": {"run": None if run is None else shown(run)}}


def shown(run: StoredRun) -> Json:
    """A run as the public interface gives it."""
    return {
        "id": run.id, "name": run.name, "displayName": run.fields.get("displayName") or run.name,
        "tags": run.fields.get("tags", []), "sweepName": None, "state": run.state, "config": json.dumps(run.config),
        "group": run.fields.get("groupName"), "jobType": run.fields.get("jobType"), "commit": None, "readOnly": False,
        "createdAt": WHEN, "heartbeatAt": None, "description": None, "notes": None, "systemMetrics": "{}",
        "summaryMetrics": json.dumps(run.summary), "historyLineCount": len(run.lines), "projectId": 1,
        "user": {"name": ENTITY, "username": ENTITY}, "historyKeys": history_keys(run),
    }  # fmt: skip


def history_keys(run: StoredRun) -> Json:
    names = sorted({key for row in run.history for key in row})
    last = max((row.get("_step", 0) for row in run.history), default=-1)
    return {"lastStep": last, "keys": {name: {} for name in names}}


def read_keys(store: Store, asked: Json) -> Json:
    return {"project": {"run": {"historyKeys": history_keys(store.run(asked))}}}


def read_history(store: Store, asked: Json) -> Json:
    rows = store.run(asked, "runName" if "runName" in asked else "run").history
    if "minStep" not in asked:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": rows}}}}
    kept = [json.dumps(row) for row in rows if asked["minStep"] <= row.get("_step", 0) < asked["maxStep"]]
    return {"project": {"run": {"history": kept}}}


# ------------------------------------------------------------------------------------------------------- artifacts


def create_artifact(store: Store, asked: Json) -> Json:
    wanted = asked.get("input", asked)
    for known in store.artifacts.values():
        same = known["digest"] == wanted["digest"] and known["collection"] == wanted["artifactCollectionName"]
        if same and known["state"] == "COMMITTED" and wanted.get("enableDigestDeduplication"):
            latest = {"latestArtifact": {"id": known["id"]}}
            return {
                "createArtifact": {"artifact": {"id": known["id"], "state": "COMMITTED", "artifactSequence": latest}}
            }
    made = node_id("Artifact", next(store.numbers))
    store.artifacts[made] = {
        "id": made, "state": "PENDING", "digest": wanted["digest"], "collection": wanted["artifactCollectionName"],
        "type": wanted["artifactTypeName"], "run": wanted.get("runName"), "metadata": wanted.get("metadata"),
    }  # fmt: skip
    return {
        "createArtifact": {"artifact": {"id": made, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}}
    }


def create_manifest(store: Store, asked: Json) -> Json:
    made, url = node_id("Manifest", asked["artifactID"]), store.upload_url(f"manifest/{asked['artifactID']}")
    file = {"id": made, "uploadUrl": url, "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": made, "file": file}}}


def create_artifact_files(store: Store, asked: Json) -> Json:
    edges = []
    for file in asked["input"]["artifactFiles"]:
        path = f"artifact/{file['artifactID']}/{file['name']}"
        node = {"storagePath": path, "uploadUrl": store.upload_url(path), "uploadHeaders": [],
                "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]}}  # fmt: skip
        edges.append({"node": node})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def commit_artifact(store: Store, asked: Json) -> Json:
    known = store.artifacts[asked["artifactID"]]
    known["state"] = "COMMITTED"
    return {"commitArtifact": {"artifact": {"id": known["id"], "digest": known["digest"]}}}


def read_artifact(store: Store, asked: Json) -> Json:
    name, _, alias = asked["name"].partition(":")
    assert alias == "latest"
    found = [each for each in store.artifacts.values() if (each["collection"], each["state"]) == (name, "COMMITTED")]
    collection = {"__typename": "ArtifactSequence", "name": name,
                  "project": project_of(asked["project"], asked["entity"])}  # fmt: skip
    membership = None
    if found:
        shown = {
            "__typename": "Artifact", "id": found[-1]["id"], "artifactSequence": collection, "versionIndex": 0,
            "artifactType": {"name": found[-1]["type"]}, "description": None, "metadata": "{}",
            "ttlDurationSeconds": -2, "ttlIsInherited": True, "tags": [], "historyStep": None, "state": "COMMITTED",
            "size": 1, "digest": found[-1]["digest"], "digestAlgorithm": "MANIFEST_MD5", "commitHash": "c",
            "fileCount": 1, "createdAt": WHEN, "updatedAt": None,
        }  # fmt: skip
        membership = {"__typename": "ArtifactCollectionMembership", "id": node_id("Membership", found[-1]["id"]),
                      "versionIndex": 0, "createdAt": WHEN, "aliases": [], "artifactCollection": collection,
                      "artifact": shown}  # fmt: skip
    return {"project": {"artifactCollectionMembership": membership}}


# ----------------------------------------------------------------------------------------------------------- views


def projects(store: Store, asked: Json) -> Json:
    names = sorted({run.project for run in store.runs.values()})
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"models": {"pageInfo": page, "edges": [{"node": project_of(name, ENTITY)} for name in names]}}


def create_project(store: Store, asked: Json) -> Json:
    made = project_of(asked["input"]["name"], asked["input"]["entityName"])
    return {"result": {"project": made, "model": made, "inserted": True}}


def upsert_view(store: Store, asked: Json) -> Json:
    known = asked.get("id") or node_id("View", next(store.numbers))
    inserted = known not in store.views
    view = store.views.setdefault(known, {}) | {key: value for key, value in asked.items() if value is not None}
    store.views[known] = view | {"id": known}
    return {"upsertView": {"inserted": inserted, "view": view_of(store.views[known])}}


def view_of(view: Json) -> Json:
    return {
        "id": view["id"], "type": view.get("type"), "name": view.get("name"), "displayName": view.get("displayName"),
        "description": view.get("description"), "createdAt": WHEN, "updatedAt": WHEN, "spec": view["spec"],
        "project": project_of(view.get("projectName"), view.get("entityName")),
    }  # fmt: skip


def read_report(store: Store, asked: Json) -> Json:
    view = store.views.get(str(asked["reportId"]))
    return {"view": view and view_of(view)}


def read_view(store: Store, asked: Json) -> Json:
    wanted = asked["viewName"]
    found = [view_of(view) for view in store.views.values() if view.get("name") == wanted]
    project = project_of(asked["projectName"], asked["entityName"])
    return {"project": project | {"allViews": {"edges": [{"node": view} for view in found]}}}


OPERATIONS: dict[str, Operation] = {
    "Viewer": viewer,
    "GetViewer": viewer,
    "GetDefaultEntity": viewer,
    "ServerInfo": server_info,
    "ServerFeaturesQuery": server_info,
    "RunResumeStatus": resume_status,
    "UpsertBucket": upsert_run,
    "RunStoppedStatus": lambda store, asked: {"project": {"run": {"stopped": False}}},
    "CreateRunFiles": create_files,
    "Run": read_run,
    "RunHistoryKeys": read_keys,
    "RunParquetHistory": read_history,
    "HistoryPage": read_history,
    "ArtifactType": lambda store, asked: {"project": {"artifact": None}},
    "CreateArtifact": create_artifact,
    "CreateArtifactManifest": create_manifest,
    "CreateArtifactFiles": create_artifact_files,
    "CommitArtifact": commit_artifact,
    "ArtifactMembershipByName": read_artifact,
    "ProjectInternalId": lambda store, asked: {"project": project_of(asked["projectName"], asked["entityName"])},
    "GetProjects": projects,
    "CreateProject": create_project,
    "UpsertView2": upsert_view,
    "upsertView": upsert_view,
    "SpecificReport": read_report,
    "View": read_view,
}
