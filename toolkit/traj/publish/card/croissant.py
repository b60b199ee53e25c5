"""croissant.json: the dataset for machines, in ML Commons' Croissant 1.0.

One set of files for each table, contained in the repository, each file with its hash beside it, and
one record set for each table whose fields are the schema's columns. A list of structs is a repeated
field of sub-fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traj import schema
from traj.publish.card import licences
from traj.publish.card.front_matter import data_files, pretty_name
from traj.publish.card.names import Names

if TYPE_CHECKING:
    from traj.dataset import DataFile, Dataset
    from traj.publish.card.frames import Frames

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_REPOSITORY = "repo"
_PARQUET = "application/x-parquet"
_TYPES = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "float64": "sc:Float",
    "int16": "sc:Integer",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "timestamp[us, UTC]": "sc:DateTime",
}

Json = dict[str, Any]


def croissant(dataset: Dataset, frames: Frames, names: Names) -> bytes:
    """The file, as JSON-LD."""
    import orjson

    from traj.publish.card.readme import summary

    page = f"https://huggingface.co/datasets/{names.repo_id}"
    spdx = {holding.spdx for holding in licences.of(frames)}
    known = licences.hub_id(licences.of(frames)) != licences.OTHER
    tables = [name for name in schema.TABLES if name in names.files]
    found: Json = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": pretty_name(dataset, names),
        "description": summary(frames).replace("`", ""),
        "url": page,
        "citeAs": _citation(names, page),
        "version": names.version,
        "license": f"https://spdx.org/licenses/{spdx.pop()}" if known else f"{page}#licences",
        "creator": {"@type": "sc:Organization", "name": names.repo_id.partition("/")[0]},
        "keywords": ["coding agents", "inference benchmark", "trajectories", "prefix caching"],
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": _REPOSITORY,
                "name": _REPOSITORY,
                "description": "The repository on the Hugging Face Hub.",
                "contentUrl": f"{page}/tree/{names.version}",
                "encodingFormat": "git+https",
                # A repository has no one hash; its files do, below.
                "sha256": page,
            },
            *(_file_set(names, table) for table in tables),
            *(file for table in tables for file in _files(dataset, names, table)),
        ],
        "recordSet": [_record_set(table, dataset.manifest.schema_version) for table in tables],
    }
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def _citation(names: Names, page: str) -> str:
    owner, _, name = names.repo_id.partition("/")
    return (
        f"@misc{{{name}, author = {{{owner}}}, title = {{{name}}}, "
        f"version = {{{names.version}}}, howpublished = {{\\url{{{page}}}}}}}"
    )


def _file_set(names: Names, table: str) -> Json:
    globs = [path for split in names.files[table] for path in names.patterns(table, split)]
    return {
        "@type": "cr:FileSet",
        "@id": _set_id(table),
        "name": _set_id(table),
        "containedIn": {"@id": _REPOSITORY},
        "encodingFormat": _PARQUET,
        "includes": globs[0] if len(globs) == 1 else globs,
    }


def _files(dataset: Dataset, names: Names, table: str) -> list[Json]:
    """The table's files whose hashes are known: those that are published as they are."""
    found: list[Json] = []
    for split, paths in names.files[table].items():
        known = data_files(dataset, names, table, split)
        found += [_file(file) for file in known if file.path in paths]
    return found


def _file(file: DataFile) -> Json:
    return {
        "@type": "cr:FileObject",
        "@id": file.path,
        "name": file.path,
        "containedIn": {"@id": _REPOSITORY},
        "contentUrl": file.path,
        "contentSize": f"{file.bytes} B",
        "encodingFormat": _PARQUET,
        "sha256": file.sha256,
    }


def _record_set(table: str, version: str) -> Json:
    definition, own = schema.table(table), schema.names(table, version)
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": f"A row is {definition.row}.",
        "key": [{"@id": f"{table}/{column}"} for column in definition.key],
        "field": [
            _field(table, column, table, ()) for column in definition.columns if column.name in own
        ],
    }


def _field(table: str, column: schema.Column, above: str, path: tuple[str, ...]) -> Json:
    """A column, or a field of a struct, whose `path` leads from its column down to it."""
    inner = column.type.removeprefix("list<").removesuffix(">")
    here = f"{above}/{column.name}"
    found: Json = {
        "@type": "cr:Field",
        "@id": here,
        "name": here,
        "description": column.description,
    }
    if inner != column.type:
        found["repeated"] = True
    path = (*path, column.name)
    if column.fields:
        found["subField"] = [_field(table, field, here, path) for field in column.fields]
        return found
    source: Json = {"fileSet": {"@id": _set_id(table)}, "extract": {"column": path[0]}}
    if len(path) > 1:
        source["transform"] = [{"jsonPath": name} for name in path[1:]]
    return {**found, "dataType": _TYPES[inner], "source": source}


def _set_id(table: str) -> str:
    return f"{table}-files"
